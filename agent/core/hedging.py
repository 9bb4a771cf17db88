"""Second copies of late requests: when one may be sent, and how many. Pure."""

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
#: Limit of saved hedges. A larger one would let one slow target overload the others.
MAX_SAVED_HEDGES = 20.0
#: No target counts as late before this; timers of a busy host may be off by as much.
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
        """Return how many second copies were sent, and their share."""
        return {"first_byte": {"hedges_sent": self.sent, "hedge_share": self.share}}


def hedge_after_ms(prediction: Prediction) -> float:
    """Return after how long without a first token a second target may be asked: the P95."""
    return max(HEDGE_AT_LEAST_MS, prediction.p95_ms)


def hedge_to(candidates: Sequence[Candidate], running: frozenset[str]) -> Candidate | None:
    """Return the soonest of ``candidates`` that is predicted in time and has a free place, or None.

    ``candidates`` passed every hard filter now. ``running`` are nodes already asked. On a node
    without a free place the copy would delay other requests that have no second copy; where a load
    comes first, it would bring in what no first copy has asked for.
    """
    able = [
        candidate
        for candidate in candidates
        if candidate.fits
        and candidate.headroom > 0
        and candidate.cold is None
        and candidate.node.id not in running
    ]
    return min(able, key=lambda candidate: candidate.ttft_ms_p99, default=None)
