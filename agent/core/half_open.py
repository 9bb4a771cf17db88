"""Strict deployments and targets predicted late: one request now and then finds out. Pure.

A strict deployment is refused where nobody is predicted in time. Refused, it teaches nothing, and a
target that was slow for half a minute would be closed to it for ever, as would one whose profile is
worse than the engine. So targets are half open: now and then a request goes there, where the
profile says that it is in time, or may be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from agent.core.exploration import is_free, profile_ms
from agent.core.samples import Sample, Samples

if TYPE_CHECKING:
    from protos.domain.router import Candidate

#: A target gets one trial in so long; after each that was late, half as often, down to this. One
#: that was in time may be followed at once.
TRIAL_EVERY_MS = 1_000.0
MAX_PAUSE_MS = 30_000.0
#: An engine that nobody knows may be so many times as fast as its profile.
UNKNOWN_DOUBT = 4.0
#: Targets under trial remembered; the one tried longest ago is forgotten first.
MAX_TARGETS = 1_024


class HalfOpenTargets:
    """When each (node, model) may be tried again."""

    def __init__(self) -> None:
        #: When, and the pause before it.
        self._due: dict[tuple[str, str], tuple[float, float]] = {}
        self.sent = 0

    def __len__(self) -> int:
        return len(self._due)

    def of(
        self, candidates: Iterable[Candidate], budget_left_ms: float, now_mono_ms: float
    ) -> Candidate | None:
        """Return whom a request may try rather than be refused; None: nobody.

        ``candidates`` are predicted late, by what was learned of them or by their profile.
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
        """A trial's first token came in time; or late, or not at all."""
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
    """Return what a first token may take at best: of one not known yet less than its profile."""
    if candidate.learned:
        return by_profile_ms
    there_ms = candidate.there_ms
    return there_ms + max(0.0, by_profile_ms - there_ms) / UNKNOWN_DOUBT


def _key(candidate: Candidate) -> tuple[str, str]:
    return candidate.node.id, candidate.replica.model
