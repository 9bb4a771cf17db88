"""A second copy of a late request: when it may be sent, and how many may be. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protos.domain.router import Candidate
    from protos.domain.ttft import Prediction

#: Share of requests that may be sent twice.
HEDGE_RATIO = 0.05
#: Unused hedges kept for a bad minute; more would make one bad minute everybody's.
MAX_SAVED_HEDGES = 20.0
#: Sooner than this no target is late: it is what a busy host's timers may be off by.
HEDGE_AT_LEAST_MS = 20.0


class HedgeBudget:
    """Every request earns ``ratio`` of a hedge and every hedge costs one.

    It begins empty, so the share holds at every moment from the first request on.
    """

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio
        self._saved = 0.0
        self.requests = 0
        self.sent = 0

    @property
    def enabled(self) -> bool:
        return self._ratio > 0.0

    @property
    def share(self) -> float:
        """Hedges sent over requests, since the start."""
        return self.sent / self.requests if self.requests else 0.0

    def earn(self) -> None:
        """A request that may be hedged was placed. Hot."""
        self.requests += 1
        saved = self._saved + self._ratio
        self._saved = saved if saved < MAX_SAVED_HEDGES else MAX_SAVED_HEDGES

    def take(self) -> bool:
        """Take one hedge, if one is left."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        self.sent += 1
        return True


def hedge_after_ms(prediction: Prediction) -> float:
    """Return how long a first token may take before a second target may be asked too: its P95."""
    return max(HEDGE_AT_LEAST_MS, prediction.p95_ms)


def hedge_to(candidates: Sequence[Candidate], running: frozenset[str]) -> Candidate | None:
    """Return the soonest of ``candidates`` predicted in time and with a place free; or None.

    ``candidates`` passed every hard filter, now. ``running`` are nodes asked already. A node
    without a free place would put the copy before somebody's only request.
    """
    able = [
        candidate
        for candidate in candidates
        if candidate.fits and candidate.headroom > 0 and candidate.node.id not in running
    ]
    return min(able, key=lambda candidate: candidate.ttft_ms_p99, default=None)
