"""A second copy of a late request: when it may be sent, and how many may be. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.core.request_share import RequestShare
from agent.core.samples import Sample, Samples

if TYPE_CHECKING:
    from protos.domain.router import Candidate
    from protos.domain.ttft import Prediction

#: Share of requests that may be sent twice.
HEDGE_RATIO = 0.05
#: Unused hedges kept for a bad minute; more would make one bad minute everybody's.
MAX_SAVED_HEDGES = 20.0
#: Sooner than this no target is late: it is what a busy host's timers may be off by.
HEDGE_AT_LEAST_MS = 20.0


class HedgeBudget(RequestShare):
    """How many second copies may be sent: ``ratio`` of all streams."""

    def __init__(self, ratio: float) -> None:
        super().__init__(ratio, MAX_SAVED_HEDGES)

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield how many second copies were sent, and their share."""
        yield Sample(
            "edgeforge_gateway_hedges_sent",
            "Second copies of late requests.",
            float(self.sent),
            counter=True,
        )
        yield Sample("edgeforge_gateway_hedge_share", "Second copies over streams.", self.share)

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return the same."""
        return {"first_byte": {"hedges_sent": self.sent, "hedge_share": self.share}}


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
