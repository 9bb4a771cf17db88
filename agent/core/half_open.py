"""Trial requests of strict deployments to targets that are predicted late. Pure.

A request of a strict deployment is refused if no target is predicted to be in time. Refused
requests produce no outcomes, so a target that was slow for half a minute, or whose profile is
slower than the engine, would stay closed for such deployments. Therefore targets are half open: at
intervals one request is sent to a target that is in time by its profile, or whose profile may be
wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from agent.core.exploration import is_free, profile_ms
from agent.core.samples import Sample, Samples

if TYPE_CHECKING:
    from protos.domain.router import Candidate

#: Pause between two trials of a target. It doubles after each late trial, up to the maximum; after
#: one in time the next trial may follow at once.
TRIAL_EVERY_MS = 1_000.0
MAX_PAUSE_MS = 30_000.0
#: An engine without learned outcomes may be faster than its profile by up to this factor.
UNKNOWN_SPEED_FACTOR = 4.0
#: Limit of targets remembered; the one tried longest ago is dropped first.
MAX_TARGETS = 1_024


class HalfOpenTargets:
    """When each (node, model) may be tried again."""

    def __init__(self) -> None:
        #: (node, model) -> when its next trial is due, and the pause before it.
        self._due: dict[tuple[str, str], tuple[float, float]] = {}
        self.sent = 0

    def __len__(self) -> int:
        return len(self._due)

    def choose_trial(
        self, candidates: Iterable[Candidate], budget_left_ms: float, now_mono_ms: float
    ) -> Candidate | None:
        """Return the target that a request may try instead of being refused, or None.

        ``candidates`` are predicted late, from learned outcomes or from their profile.
        """
        best: Candidate | None = None
        soonest_ms = math.inf
        for candidate in candidates:
            due_mono_ms, _ = self._due.get(_key(candidate), (now_mono_ms, 0.0))
            if now_mono_ms < due_mono_ms or not is_free(candidate):
                continue
            by_profile_ms = profile_ms(candidate)
            if _least_ms(candidate, by_profile_ms) <= budget_left_ms and by_profile_ms < soonest_ms:
                best, soonest_ms = candidate, by_profile_ms
        if best is not None:
            _, pause_ms = self._due.get(_key(best), (0.0, TRIAL_EVERY_MS))
            self._set(best, now_mono_ms, pause_ms)
            self.sent += 1
        return best

    def ended(self, candidate: Candidate, now_mono_ms: float, *, in_time: bool) -> None:
        """Take the result of a trial; ``in_time`` is False for a late or missing first token."""
        if in_time:
            self._set(candidate, now_mono_ms - TRIAL_EVERY_MS, TRIAL_EVERY_MS)
            return
        _, pause_ms = self._due.get(_key(candidate), (0.0, TRIAL_EVERY_MS))
        self._set(candidate, now_mono_ms, min(2.0 * pause_ms, MAX_PAUSE_MS))

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield how many trials were sent."""
        yield Sample(
            "edgeforge_gateway_strict_trials",
            "Requests of strict deployments let through to try a target predicted late.",
            float(self.sent),
            counter=True,
        )

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return how many trials were sent."""
        return {"first_byte": {"strict_trials": self.sent}}

    def _set(self, candidate: Candidate, now_mono_ms: float, pause_ms: float) -> None:
        key = _key(candidate)
        self._due.pop(key, None)
        if len(self._due) >= MAX_TARGETS:
            del self._due[next(iter(self._due))]
        self._due[key] = now_mono_ms + pause_ms, pause_ms


def _least_ms(candidate: Candidate, by_profile_ms: float) -> float:
    """Return the shortest possible first-token time, below the profile's if nothing is learned."""
    if candidate.learned:
        return by_profile_ms
    there_ms = candidate.there_ms
    return there_ms + max(0.0, by_profile_ms - there_ms) / UNKNOWN_SPEED_FACTOR


def _key(candidate: Candidate) -> tuple[str, str]:
    return candidate.node.id, candidate.replica.model
