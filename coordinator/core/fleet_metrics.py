"""The fleet's figures against what the product is sold on. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from coordinator.core.price_card import line_of
from protos.domain.resources import Price, Tier

#: What the product is sold on: docs/decisions/0062-reports.md.
TARGET_REQUESTS_A_WEEK = 800_000_000
TARGET_FIRST_TOKEN_MS = 80.0
TARGET_KEPT_PERCENT = 95.0
TARGET_COLD_START_MS = 600.0
TARGET_EDGE_FILL_PERCENT = 70.0
#: A fill this far from its target is near it.
NEAR_PERCENT = 10.0
TARGET_PREMIUM_PERCENT = (15.0, 25.0)
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class FleetFigures:
    """What the figures are computed from. Money is in nano-USD."""

    paid_requests_week: int
    paying_accounts: int
    first_token_ms_p99: float | None
    streams: int
    streams_in_time: int
    cold_start_ms_p99: float | None
    #: Mean of the edge POPs; None without a sample.
    edge_fill_ratio: float | None
    revenue_nano_usd: int
    credits_nano_usd: int
    cost_nano_usd: int
    #: POPs that served and have no cost.
    pops_without_cost: Collection[str]
    #: Account -> revenue of the 30 days before the last 30, and of the last 30.
    cohort_nano_usd: Mapping[str, tuple[int, int]]
    lines: Sequence[Price] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure; None: there is nothing to tell it by, or no target."""

    name: str
    value: float | None
    unit: str
    target: float | None = None
    comparison: str = ""
    met: bool | None = None
    note: str = ""


def metrics_of(figures: FleetFigures) -> list[Metric]:
    """Return every figure, in the order of the reports."""
    return [
        _above("paid_requests_a_week", figures.paid_requests_week, "", TARGET_REQUESTS_A_WEEK),
        Metric("paying_accounts", figures.paying_accounts, "", note="of the last 30 days"),
        _below("first_token_p99", figures.first_token_ms_p99, "ms", TARGET_FIRST_TOKEN_MS),
        _above(
            "tier_sla_met",
            100 * figures.streams_in_time / figures.streams if figures.streams else None,
            "%",
            TARGET_KEPT_PERCENT,
        ),
        _below("cold_start_p99", figures.cold_start_ms_p99, "ms", TARGET_COLD_START_MS),
        _near(
            "edge_utilisation",
            None if figures.edge_fill_ratio is None else 100 * figures.edge_fill_ratio,
            "%",
            TARGET_EDGE_FILL_PERCENT,
        ),
        _margin(figures),
        _retention(figures),
        *_premiums(figures.lines),
    ]


def _margin(figures: FleetFigures) -> Metric:
    """Return the margin; not known while a POP that has served has no cost: it is not free."""
    earned = figures.revenue_nano_usd - figures.credits_nano_usd
    missing = sorted(figures.pops_without_cost)
    note = "of the last 30 days, credits owed deducted"
    if missing:
        more = len(missing) - _SHOWN
        note += f"; without a cost an hour: {', '.join(missing[:_SHOWN])}" + (
            f" and {more} more" if more > 0 else ""
        )
    if earned <= 0 or not figures.cost_nano_usd or missing:
        return Metric("gross_margin", None, "%", note=note)
    return Metric("gross_margin", 100 * (earned - figures.cost_nano_usd) / earned, "%", note=note)


def _retention(figures: FleetFigures) -> Metric:
    """Return what the accounts of the 30 days before the last 30 pay now, over what they paid."""
    before = sum(one for one, _ in figures.cohort_nano_usd.values() if one > 0)
    now = sum(other for one, other in figures.cohort_nano_usd.values() if one > 0)
    count = sum(1 for one, _ in figures.cohort_nano_usd.values() if one > 0)
    return Metric(
        "net_revenue_retention_30d",
        100 * now / before if before else None,
        "%",
        note=f"of {count} accounts that paid in the 30 days before",
    )


def _premiums(lines: Sequence[Price]) -> list[Metric]:
    """Return the least and the most that edge costs over central, of any rate of the card."""
    found = []
    for size_class in dict.fromkeys(line.size_class for line in lines):
        edge, central = (line_of(lines, size_class, tier) for tier in (Tier.EDGE, Tier.CENTRAL))
        if edge is None or central is None:
            continue
        for name in ("prompt", "cached", "completion"):
            base = getattr(central, f"{name}_nano_usd_per_token")
            if base > 0:
                found.append(100 * getattr(edge, f"{name}_nano_usd_per_token") / base - 100)
    lowest, highest = TARGET_PREMIUM_PERCENT
    return [
        _above("edge_premium_least", min(found, default=None), "%", lowest),
        _below("edge_premium_most", max(found, default=None), "%", highest),
    ]


def _above(name: str, value: float | None, unit: str, target: float) -> Metric:
    met = None if value is None else value >= target
    return Metric(name, value, unit, target, ">=", met)


def _below(name: str, value: float | None, unit: str, target: float) -> Metric:
    met = None if value is None else value <= target
    return Metric(name, value, unit, target, "<=", met)


def _near(name: str, value: float | None, unit: str, target: float) -> Metric:
    met = None if value is None else abs(value - target) <= NEAR_PERCENT
    return Metric(name, value, unit, target, "~", met)
