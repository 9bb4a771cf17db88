"""Reports: how promises were kept, the fleet's figures, POPs to retire. No report asks agents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.core.fleet_metrics import FleetFigures, Metric, metrics_of
from coordinator.core.months import month_number_of, month_of, month_start_unix_ms
from coordinator.core.pop_costs import (
    MAX_NANO_USD_PER_HOUR,
    CostChange,
    PopCost,
    cost_between,
)
from coordinator.core.pop_review import MAX_DAYS, REVIEW_DAYS, DayFill, PopReview, review_pops
from coordinator.core.sla_credits import PromiseSums, SlaCredit, credits_of
from coordinator.core.sla_report import UNKNOWN_REGION, By, SlaLine, grouping, sla_lines
from coordinator.core.usage_sketches import BUCKET_MS, ScopeFamily, SketchKind
from coordinator.operations.acts import Act
from coordinator.operations.prices import public_card
from coordinator.operations.use_case import UseCases, named, note_of, use_case
from coordinator.store import pop_costs
from coordinator.usage.report_queries import grouped_sums, merged_quantiles, month_sums
from coordinator.usage.utilisation import DAY_MS, days_of_pops
from protos.domain.errors import InvalidRequest
from protos.domain.ids import check_pop_id
from protos.domain.resources import CardTerms, Tier

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor

#: Longest time of one report.
_MAX_RANGE_MS = 400 * DAY_MS
_WEEK_MS = 7 * DAY_MS
_COHORT_MS = 30 * DAY_MS


@dataclass(frozen=True, slots=True)
class MonthCredit:
    """What one account's SLA tier is owed of a month such as 202611; so far, if it is not over."""

    month: int
    credit: SlaCredit


@dataclass(frozen=True, slots=True)
class SlaReport:
    """The report of a time, and the credits of every month that it touches, whole."""

    from_unix_ms: int
    until_unix_ms: int
    lines: Sequence[SlaLine]
    credits: Sequence[MonthCredit]

    @property
    def owed_nano_usd(self) -> int:
        """All credits."""
        return sum(one.credit.nano_usd for one in self.credits)


@dataclass(frozen=True, slots=True)
class PopsReport:
    """The review of whole days, UTC, up to the last midnight."""

    from_unix_ms: int
    until_unix_ms: int
    pops: Sequence[PopReview]


class Reports(UseCases):
    """Reads the usage database and the coordinator's own facts."""

    @use_case(Act.REPORT_SLA)
    async def sla(
        self, actor: Actor, from_unix_ms: int = 0, until_unix_ms: int = 0, by: By = By.REGION
    ) -> SlaReport:
        """Report a time, in steps of 5 minutes; by default the month so far.

        An account's report is of itself, by SLA tier. Raises: InvalidRequest.
        """
        account = actor.own("")
        now_unix_ms = self._parts.now_unix_ms()
        until_unix_ms = until_unix_ms or now_unix_ms + BUCKET_MS
        from_unix_ms = from_unix_ms or month_start_unix_ms(
            month_of(min(until_unix_ms, now_unix_ms))
        )
        if not 0 < until_unix_ms - from_unix_ms <= _MAX_RANGE_MS:
            raise InvalidRequest(
                "a report is of at least a moment and at most 400 days", "check --from and --to"
            )
        from_unix_ms -= from_unix_ms % BUCKET_MS
        until_unix_ms -= until_unix_ms % BUCKET_MS
        family, column = ScopeFamily.POP, "ingress_pop"
        if by is By.ACCOUNT or account:
            by, family, column = By.ACCOUNT, ScopeFamily.ACCOUNT, "account"
        read = self._parts.usage_db.read
        when = (from_unix_ms, until_unix_ms)
        group_of = grouping(by, self._region_of)
        tokens = merged_quantiles(
            SketchKind.FIRST_TOKEN, family, *when, group_of, (0.50, 0.99), account
        )
        paces = merged_quantiles(SketchKind.PACE, family, *when, group_of, (0.50, 0.01), account)
        lines = sla_lines(
            await read(grouped_sums(("sla_tier", column), *when, account)),
            group_of,
            await read(tokens),
            await read(paces),
            public_card(self._store)[0].terms,
        )
        touched = (month_number_of(from_unix_ms), month_number_of(until_unix_ms - 1))
        months = await self._credits(*touched, account)
        return SlaReport(from_unix_ms, until_unix_ms, lines, months)

    @use_case(Act.REPORT_METRICS)
    async def metrics(self, actor: Actor, at_unix_ms: int = 0) -> Sequence[Metric]:
        """Return the fleet's figures as of a moment, 0: now."""
        now = at_unix_ms or self._parts.now_unix_ms()
        read = self._parts.usage_db.read
        week = (now - _WEEK_MS, now)
        month = (now - _COHORT_MS, now)
        sums = [one for _, one in await read(grouped_sums(("sla_tier",), *week))]
        now_by_account = await read(grouped_sums(("account",), *month))
        before = await read(grouped_sums(("account",), now - 2 * _COHORT_MS, now - _COHORT_MS))
        by_pop = await read(grouped_sums(("serving_pop",), *month))
        revenue = {account: one.nano_usd for (account,), one in now_by_account}
        costs = self._store.pop_costs()
        served = {pop_id for (pop_id,), one in by_pop if pop_id and one.nano_usd}
        figures = FleetFigures(
            paid_requests_week=sum(one.billed for one in sums),
            paying_accounts=sum(1 for nano_usd in revenue.values() if nano_usd > 0),
            first_token_ms_p99=_ms(await self._p99(SketchKind.FIRST_TOKEN, *week)),
            streams=sum(one.streams for one in sums),
            streams_in_time=sum(one.streams_in_time for one in sums),
            cold_start_ms_p99=_ms(await self._p99(SketchKind.COLD, *week)),
            edge_fill_ratio=await self._edge_fill(*week),
            revenue_nano_usd=sum(revenue.values()),
            credits_nano_usd=await self._credits_between(*month),
            cost_nano_usd=sum(cost_between(one, *month) for one in costs.values()),
            pops_without_cost=served - set(costs),
            cohort_nano_usd={
                account: (one.nano_usd, revenue.get(account, 0)) for (account,), one in before
            },
            lines=tuple(self._store.view().prices.values()),
        )
        return metrics_of(figures)

    @use_case(Act.REPORT_POPS)
    async def pops(self, actor: Actor, days: int = 0, at_unix_ms: int = 0) -> PopsReport:
        """Review every POP over the last ``days`` whole days, 0: sixty. Raises: InvalidRequest."""
        days = days or REVIEW_DAYS
        if not 1 <= days <= MAX_DAYS:
            raise InvalidRequest(f"{days} days are not in 1..{MAX_DAYS}")
        now = at_unix_ms or self._parts.now_unix_ms()
        until_unix_ms = now - now % DAY_MS
        from_unix_ms = until_unix_ms - days * DAY_MS
        read = self._parts.usage_db.read
        seen: dict[str, list[DayFill]] = {}
        for one in await read(days_of_pops(from_unix_ms, until_unix_ms)):
            fill = DayFill(one.day_unix_ms, one.samples, one.ratio)
            seen.setdefault(one.pop_id, []).append(fill)
        by_pop = await read(grouped_sums(("serving_pop",), from_unix_ms, until_unix_ms))
        reviews = review_pops(
            self._store.view().pops,
            seen,
            {pop_id: sums.nano_usd for (pop_id,), sums in by_pop},
            self._store.pop_costs(),
            from_unix_ms=from_unix_ms,
            until_unix_ms=until_unix_ms,
        )
        return PopsReport(from_unix_ms, until_unix_ms, reviews)

    @use_case(Act.POP_COST, named("pop"))
    async def set_cost(self, actor: Actor, pop_id: str, nano_usd_per_hour: int) -> PopCost:
        """Write down what a POP costs an hour from now on. Raises: InvalidRequest, NotFound."""
        check_pop_id(pop_id)
        if not 0 <= nano_usd_per_hour <= MAX_NANO_USD_PER_HOUR:
            raise InvalidRequest(
                f"a cost of {nano_usd_per_hour} nano-USD an hour is not in"
                f" 0..{MAX_NANO_USD_PER_HOUR}",
                param="usd-per-hour",
            )
        change = CostChange(self._parts.now_unix_ms(), nano_usd_per_hour)
        detail = f"nano_usd_per_hour={nano_usd_per_hour}"
        note = note_of(actor, Act.POP_COST, f"pop/{pop_id}", detail)
        return await self._store.write(pop_costs.put(pop_id, change), note)

    async def _credits(
        self, first_month: int, last_month: int, account_id: str
    ) -> list[MonthCredit]:
        """Return the credits of months, of one account or of all, each judged by itself."""
        columns = ("booked_month", "account", "sla_tier", "card_version")
        months: dict[int, list[PromiseSums]] = {}
        rows = await self._parts.usage_db.read(
            month_sums(columns, first_month, last_month, account_id)
        )
        for (month, account, sla_tier, version), sums in rows:
            months.setdefault(int(month), []).append(
                PromiseSums(
                    account,
                    sla_tier,
                    int(version),
                    sums.streams,
                    sums.streams_in_time,
                    sums.nano_usd,
                )
            )
        return [
            MonthCredit(month, credit)
            for month, sums in sorted(months.items())
            for credit in credits_of(sums, self._terms_of)
        ]

    async def _credits_between(self, from_unix_ms: int, until_unix_ms: int) -> int:
        """Return the credits that a time would owe if it were one month."""
        columns = ("account", "sla_tier", "card_version")
        rows = await self._parts.usage_db.read(grouped_sums(columns, from_unix_ms, until_unix_ms))
        sums = [
            PromiseSums(
                account, sla_tier, int(version), one.streams, one.streams_in_time, one.nano_usd
            )
            for (account, sla_tier, version), one in rows
        ]
        return sum(one.nano_usd for one in credits_of(sums, self._terms_of))

    def _terms_of(self, version: int) -> CardTerms | None:
        card = self._store.price_cards().get(version)
        return None if card is None else card.terms

    def _region_of(self, pop_id: str) -> str:
        pop = self._store.view().pops.get(pop_id)
        return pop.zone if pop else UNKNOWN_REGION

    async def _p99(self, kind: SketchKind, from_unix_ms: int, until_unix_ms: int) -> float | None:
        """Return the P99 of all, in the unit of the sketch."""
        question = merged_quantiles(
            kind, ScopeFamily.POP, from_unix_ms, until_unix_ms, lambda *scope: "all", (0.99,)
        )
        found = await self._parts.usage_db.read(question)
        return found["all"][0] if found else None

    async def _edge_fill(self, from_unix_ms: int, until_unix_ms: int) -> float | None:
        """Return the mean fill of edge POPs, each weighed by the minutes it was seen."""
        pops = self._store.view().pops
        days = await self._parts.usage_db.read(days_of_pops(from_unix_ms, until_unix_ms))
        edge = [one for one in days if (pop := pops.get(one.pop_id)) and pop.tier is Tier.EDGE]
        samples = sum(one.samples for one in edge)
        return sum(one.ratio * one.samples for one in edge) / samples if samples else None


def _ms(value_us: float | None) -> float | None:
    return None if value_us is None else value_us / 1_000
