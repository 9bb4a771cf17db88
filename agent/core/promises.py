"""First tokens, late ones, admitted and shed requests of each SLA tier. Pure counters.

Metrics are by tier, because tiers are few and deployments are many; the latest requests are
summarised by deployment in ``agent.gateway.records``.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Iterable

from agent.core.samples import HistogramSample, Sample, Samples
from protos.domain.errors import (
    BudgetUnreachable,
    EdgeForgeError,
    NoReplica,
    Overloaded,
    StorageFull,
)
from protos.domain.resources import SlaTier

#: Upper bounds of the first-token histogram; every budget that is sold is one of them.
FIRST_TOKEN_BOUNDS_MS = (
    *(10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 150.0, 200.0, 300.0, 500.0, 750.0),
    *(1_000.0, 1_500.0, 2_000.0, 3_000.0, 5_000.0, 10_000.0, 30_000.0),
)
_BOUNDS_S = tuple(bound_ms / 1_000.0 for bound_ms in FIRST_TOKEN_BOUNDS_MS)
#: SLA tier of a request that was shed before its deployment was known.
UNKNOWN_SLA = "unknown"


class Shed(enum.StrEnum):
    """Why a valid request was refused."""

    BUDGET = "budget_unreachable"
    NO_REPLICA = "no_replica"
    OVERLOADED = "overloaded"
    #: No space for the record of what it would use.
    STORAGE = "usage_storage_full"


def shed_by(error: EdgeForgeError) -> Shed | None:
    """Return the reason if ``error`` sheds a valid request; None for any other error."""
    if isinstance(error, BudgetUnreachable):
        return Shed.BUDGET
    if isinstance(error, Overloaded):
        return Shed.OVERLOADED
    if isinstance(error, StorageFull):
        return Shed.STORAGE
    return Shed.NO_REPLICA if isinstance(error, NoReplica) else None


class Promises:
    """Counters of one SLA tier, for requests that clients sent to this agent."""

    __slots__ = ("admitted", "buckets", "first_token_ms_sum", "late", "shed")

    def __init__(self) -> None:
        #: Requests of a known deployment that were not shed.
        self.admitted = 0
        self.shed = dict.fromkeys(Shed, 0)
        #: First tokens up to each bound and above the previous one; the last: above all bounds.
        self.buckets = [0] * (len(FIRST_TOKEN_BOUNDS_MS) + 1)
        self.first_token_ms_sum = 0.0
        #: First tokens that came after their request's budget.
        self.late = 0

    def first_token(self, felt_ms: float, budget_ms: float) -> None:
        """Count a stream's first token, which came ``felt_ms`` after its user's request."""
        self.buckets[bisect_left(FIRST_TOKEN_BOUNDS_MS, felt_ms)] += 1
        self.first_token_ms_sum += felt_ms
        self.late += felt_ms > budget_ms


class PromisesBySla:
    """The counters of each SLA tier, and those of requests whose tier is unknown."""

    def __init__(self) -> None:
        self._by_sla = {sla: Promises() for sla in (*map(str, SlaTier), UNKNOWN_SLA)}

    def of(self, sla: str) -> Promises:
        """Return the counters of ``sla``; empty means unknown."""
        return self._by_sla[sla or UNKNOWN_SLA]

    def items(self) -> Iterable[tuple[str, Promises]]:
        """Return every tier with its counters, also those without a request."""
        return self._by_sla.items()

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield every tier's first tokens, late ones, admitted and shed requests."""
        for sla, of in self.items():
            labels = (("sla", sla),)
            yield HistogramSample(
                "edgeforge_gateway_first_token_seconds",
                "From a stream's first byte to its first token, last mile included.",
                _BOUNDS_S,
                of.buckets,
                of.first_token_ms_sum / 1_000.0,
                labels,
            )
            yield Sample(
                "edgeforge_gateway_first_tokens_late",
                "First tokens that came after their budget.",
                float(of.late),
                counter=True,
                labels=labels,
            )
            yield Sample(
                "edgeforge_gateway_admitted",
                "Requests of a known deployment that were not shed.",
                float(of.admitted),
                counter=True,
                labels=labels,
            )
            for reason, count in of.shed.items():
                yield Sample(
                    "edgeforge_gateway_shed",
                    "Valid requests that were refused, by reason.",
                    float(count),
                    counter=True,
                    labels=(*labels, ("reason", reason.value)),
                )
