"""Which POPs are proposed for retirement: under half full for sixty days. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.core.pop_costs import PopCost, cost_between

if TYPE_CHECKING:
    from protos.domain.resources import Pop

DAY_MS = 86_400_000
LEAST_RATIO = 0.50
REVIEW_DAYS = 60
MAX_DAYS = 366
#: Of the days, this share must have been seen: days without a sample are no idle days.
SEEN_RATIO = 0.9
#: A day counts as seen with a sample of this many of its minutes.
MIN_SAMPLES_A_DAY = 144


class Verdict(enum.StrEnum):
    """What is proposed."""

    RETIRE = "retire"
    KEEP = "keep"
    TOO_EARLY = "too early"


@dataclass(frozen=True, slots=True)
class DayFill:
    """A POP's mean fill on a day, from ``samples`` minutes."""

    day_unix_ms: int
    samples: int
    ratio: float


@dataclass(frozen=True, slots=True)
class PopReview:
    """One POP over the days reviewed. ``days_under``: up to the last day, in a row, under half."""

    pop_id: str
    tier: str
    zone: str
    utilisation_ratio: float | None
    days_seen: int
    days_under: int
    revenue_nano_usd: int
    cost_nano_usd: int
    has_cost: bool
    verdict: Verdict
    why: str

    @property
    def margin_nano_usd(self) -> int:
        """Revenue of what it served, less its cost; without a known cost that is the revenue."""
        return self.revenue_nano_usd - self.cost_nano_usd


def review_pops(
    pops: Mapping[str, Pop],
    days: Mapping[str, Sequence[DayFill]],
    revenue_nano_usd: Mapping[str, int],
    costs: Mapping[str, PopCost],
    *,
    from_unix_ms: int,
    until_unix_ms: int,
) -> list[PopReview]:
    """Return every POP over whole days, those to retire first, the worst margin first.

    A POP is proposed when none of the days that were seen reached half, and nearly all were seen.
    """
    wanted = (until_unix_ms - from_unix_ms) // DAY_MS
    found = []
    for pop_id, pop in pops.items():
        seen = [
            one
            for one in days.get(pop_id, ())
            if from_unix_ms <= one.day_unix_ms < until_unix_ms and one.samples >= MIN_SAMPLES_A_DAY
        ]
        verdict, why = _judged(seen, wanted)
        cost = costs.get(pop_id)
        samples = sum(one.samples for one in seen)
        weighed = sum(one.ratio * one.samples for one in seen)
        found.append(
            PopReview(
                pop_id,
                str(pop.tier),
                pop.zone,
                weighed / samples if samples else None,
                len(seen),
                _days_under(seen),
                revenue_nano_usd.get(pop_id, 0),
                cost_between(cost, from_unix_ms, until_unix_ms) if cost else 0,
                cost is not None,
                verdict,
                why,
            )
        )
    order = list(Verdict)
    return sorted(
        found, key=lambda one: (order.index(one.verdict), one.margin_nano_usd, one.pop_id)
    )


def _judged(seen: Sequence[DayFill], wanted: int) -> tuple[Verdict, str]:
    if not seen:
        return Verdict.TOO_EARLY, "its utilisation was never seen"
    busiest = max(seen, key=lambda one: one.ratio)
    if busiest.ratio >= LEAST_RATIO:
        return Verdict.KEEP, f"it reached {busiest.ratio:.0%} on a day"
    if len(seen) < SEEN_RATIO * wanted:
        return Verdict.TOO_EARLY, f"{len(seen)} of {wanted} days were seen, all under half"
    return Verdict.RETIRE, f"under {LEAST_RATIO:.0%} on each of {len(seen)} days"


def _days_under(seen: Sequence[DayFill]) -> int:
    count = 0
    for one in sorted(seen, key=lambda one: -one.day_unix_ms):
        if one.ratio >= LEAST_RATIO:
            break
        count += 1
    return count
