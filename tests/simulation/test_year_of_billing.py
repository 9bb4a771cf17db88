"""Fourteen months of many accounts, in a minute, against books that are kept by hand.

Real ingest, billing, price cards and reports over databases on a disk that are closed and opened
again at random; a clock that is set, and jumps; agents that send late, twice, and what was sent
before; a provider of payments that declines, waits, is away, or loses its answers.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from coordinator.billing import account_credits, books, invoices
from coordinator.core.sla_report import By
from coordinator.usage.exports import LineFilter
from coordinator.usage.utilisation import PopFill, add_sample
from tests.support.billed_year import coordinator
from tests.support.operations import actor
from tests.support.year_of_requests import END, NAMES, START, YearOfRequests
from tests.support.year_oracle import (
    CENT,
    DAY_MS,
    MINUTE_MS,
    Oracle,
    Request,
    at_ms,
    end_of,
    month_of,
)

#: An event loop has a pair of sockets; nothing is connected.
pytestmark = pytest.mark.enable_socket


class Year(YearOfRequests):
    """Compares what the product says with the oracle."""

    async def compare_books(self) -> None:
        """Compare ledger, roll-ups, raw records, invoices, credits and alerts."""
        self.checks += 1
        world, oracle = self.world, self.oracle
        found = await world.database.read(books.audit)
        assert found.problems == []
        total = sum(one.nano for one in oracle.requests)
        raw = sum(one.nano for one in oracle.requests if one.is_raw)
        told = (found.usage_nano_usd, found.rollup_nano_usd, found.raw_nano_usd)
        assert told == (total, total, raw)
        rows = await world.database.read(lambda one: invoices.listed(one, "", 10_000))
        bills = {row.invoice.number: row for row in rows if row.kind == "invoice"}
        assert list(bills)[::-1] == [one.number for one in oracle.bills]
        for bill in oracle.bills:
            _compare_bill(bill, bills[bill.number])
        notes = [
            (row.invoice.number, row.invoice.of_invoice, -row.invoice.total_cents)
            for row in rows[::-1]
            if row.kind == "credit_note"
        ]
        assert notes == oracle.notes
        left = await world.database.read(
            lambda one: {
                row.credit.id: row.credit.remaining_nano_usd
                for name in NAMES
                for row in account_credits.listed(one, name)
            }
        )
        kept = {one.id: one.left for owned in oracle.credits.values() for one in owned}
        assert {number: kept[number] for number in left} == left
        balances = dict(await world.database.read(books.all_balances))
        cash = sum(amount for _, amount in self.provider.taken.values())
        told = sum(self.provider.taken[key][1] for key in self.told)
        assert balances.get("cash/stripe", 0) == told * CENT
        assert cash - told == sum(
            self.provider.taken[key][1] for key in set(self.provider.taken) - self.told
        )
        assert sum(balances.values()) == 0
        assert balances.get("tax/payable", 0) <= 0
        alerts = await world.database.read(
            lambda one: one.execute("SELECT account, period, basis, percent FROM alerts").fetchall()
        )
        assert {(a, int(p.replace("-", "")), b, n) for a, p, b, n in alerts} == oracle.alerts
        assert len(world.mails.sent) <= len(alerts)

    async def compare_reports(self, month: int) -> None:
        """Compare the SLA report and the credits of a month with the requests that it had."""
        began, ended = at_ms(month // 100, month % 100), end_of(month)
        report = await self.world.ops.reports.sla(actor(), began, ended, By.ACCOUNT)
        mine = [one for one in self.oracle.requests if began <= one.began < ended]
        lines = {(one.sla_tier, one.account): one for one in report.lines}
        groups: dict[tuple[str, str], list[Request]] = {}
        for one in mine:
            groups.setdefault((one.sla, one.account), []).append(one)
        assert set(lines) == set(groups)
        for key, requests in groups.items():
            line = lines[key]
            streams = [one for one in requests if one.stream and one.ttft_us]
            assert line.sums.requests == len(requests)
            assert line.sums.nano_usd == sum(one.nano for one in requests)
            assert (line.sums.streams, line.sums.streams_in_time) == (
                len(streams),
                sum(one.in_time for one in streams),
            )
            assert line.sums.predicted_misses == sum(one.missed for one in requests)
            _near(line.first_token_ms_p50, [one.ttft_us / 1_000 for one in streams], 0.50)
            _near(line.first_token_ms_p99, [one.ttft_us / 1_000 for one in streams], 0.99)
            paces = [
                (one.completion - 1) * 1e6 / one.stream_us for one in streams if one.completion > 1
            ]
            _near(line.tokens_per_s_p50, paces, 0.50)
            _near(line.tokens_per_s_p1, paces, 0.01)
        given = {
            (one.credit.account, one.credit.sla_tier): one.credit.nano_usd
            for one in report.credits
            if one.month == month and one.credit.nano_usd
        }
        owed = {
            (name, sla): nano
            for name in NAMES
            for sla, nano in self.oracle.sla_owed(name, month).items()
        }
        assert given == owed

        await self.compare_regions(began, ended, mine)

    async def compare_regions(self, began: int, ended: int, mine: list[Request]) -> None:
        """Compare by SLA tier and zone; the sums that leave a zone are in it."""
        report = await self.world.ops.reports.sla(actor(), began, ended, By.REGION)
        zones = {"GRU": "BR", "IAD": "US"}
        told = {
            (one.sla_tier, one.region): (one.sums.requests, one.sums.streams, one.sums.nano_usd)
            for one in report.lines
        }
        wanted: dict[tuple[str, str], list[Request]] = {}
        for one in mine:
            wanted.setdefault((one.sla, zones[one.pop]), []).append(one)
        assert told == {
            key: (
                len(found),
                sum(one.stream and one.ttft_us > 0 for one in found),
                sum(one.nano for one in found),
            )
            for key, found in wanted.items()
        }

    async def compare_metrics(self) -> None:
        now, requests = self.world.clock(), self.oracle.requests
        found = {one.name: one.value for one in await self.world.ops.reports.metrics(actor())}

        def within(days: int, until: int = 0) -> list[Request]:
            first, last = now - days * DAY_MS, now - until * DAY_MS
            return [one for one in requests if first <= one.began - one.began % MINUTE_MS < last]

        week, month, before = within(7), within(30), within(60, 30)
        assert found["paid_requests_a_week"] == sum(one.nano > 0 for one in week)
        assert found["gross_margin"] is None, "no POP has a cost yet"
        assert found["cold_start_p99"] is None
        assert found["paying_accounts"] == len({one.account for one in month if one.nano})
        streams = [one for one in week if one.stream and one.ttft_us]
        assert found["tier_sla_met"] == pytest.approx(
            100 * sum(one.in_time for one in streams) / len(streams)
        )
        cohort = {one.account for one in before if one.nano}
        assert found["net_revenue_retention_30d"] == pytest.approx(
            100
            * sum(one.nano for one in month if one.account in cohort)
            / sum(one.nano for one in before)
        )

    async def move_raw(self) -> None:
        """Move records of past weeks to the blob store, as upkeep does."""
        now = self.world.clock()
        minute = (now // DAY_MS - 20) * (DAY_MS // MINUTE_MS)
        await self.world.exports.export_before(minute, now)

    async def compare_raw(self) -> None:
        """Compare every line of an export, wherever it is, with the requests."""
        found = {}
        async for lines in self.world.exports.lines(LineFilter()):
            for one in lines:
                assert one.record.trace_id not in found
                found[one.record.trace_id] = (one.record.began_unix_ms, one.record.nano_usd)
        mine = {one.trace: (one.began, one.nano) for one in self.oracle.requests if one.is_raw}
        assert found == mine
        mine = {r.trace for r in self.oracle.requests if r.is_raw and r.account == NAMES[3]}
        wanted = LineFilter(account=NAMES[3])
        told = [one async for lines in self.world.exports.lines(wanted) for one in lines]
        assert {one.record.trace_id for one in told} == mine
        assert len(told) == len(mine)
        (held,) = await self.world.database.read(
            lambda one: one.execute("SELECT count(*) FROM quarantine").fetchone()
        )
        assert held == self.held - sum(
            one is None for spool in self.spools for _, one in spool.waiting
        )

    async def compare_pops(self) -> None:
        """Review the last sixty days: the edge was under half full, the central POP was not."""
        world = self.world
        midnight = world.clock() - world.clock() % DAY_MS
        for day in range(1, 61):
            for minute in range(0, 1_440, 10):
                at = midnight - day * DAY_MS + minute * MINUTE_MS
                fills = {"GRU": PopFill(0.3, 1), "IAD": PopFill(0.7, 1)}
                await world.database.write(add_sample(at, fills))
        await world.ops.reports.set_cost(actor(), "GRU", 3 * CENT)
        report = await world.ops.reports.pops(actor())
        first = midnight - 60 * DAY_MS
        for one in report.pops:
            served = [r for r in self.oracle.requests if first <= r.began < midnight]
            earned = sum(r.nano for r in served if r.served == one.pop_id)
            assert one.revenue_nano_usd == earned
        told = {one.pop_id: (one.verdict, one.has_cost, one.cost_nano_usd) for one in report.pops}
        assert told == {"GRU": ("retire", True, 60 * 24 * 3 * CENT), "IAD": ("keep", False, 0)}
        found = {one.name: one for one in await world.ops.reports.metrics(actor())}
        assert found["edge_utilisation"].value == pytest.approx(30.0)
        # IAD has served and has no cost: what it earned is no margin.
        assert found["gross_margin"].value is None
        await world.ops.reports.set_cost(actor(), "IAD", CENT)
        found = {one.name: one for one in await world.ops.reports.metrics(actor())}
        first = world.clock() - 30 * DAY_MS
        month = [r for r in self.oracle.requests if r.began // MINUTE_MS * MINUTE_MS >= first]
        month = [r for r in month if r.began // MINUTE_MS * MINUTE_MS < world.clock()]
        earned = sum(r.nano for r in month) - self.owed_of(month)
        cost = 30 * 24 * 4 * CENT
        assert found["gross_margin"].value == pytest.approx(100 * (earned - cost) / earned)

    def owed_of(self, requests: list[Request]) -> int:
        """Return the credits that these requests would owe if they were one month."""
        books = Oracle(self.oracle.country, self.oracle.vat_id, frozenset(), {})
        books.cards = self.oracle.cards
        for one in requests:
            books.booked[one.account, 1].append(one)
        return sum(nano for name in NAMES for nano in books.sla_owed(name, 1).values())

    def require_all_happened(self) -> None:
        """Check that the year had in it what it is for."""
        oracle = self.oracle
        assert len(oracle.requests) > 10_000
        assert self.restarts > 10
        assert self.held > 10
        assert len(oracle.closed_at) >= 13
        assert any(one.booked != month_of(one.began) for one in oracle.requests)
        assert any(line[0] != bill.month for bill in oracle.bills for line in bill.lines)
        assert {one.number[:7] for one in oracle.bills} == {"EF-2028", "EF-2029"}
        assert {one.card for one in oracle.requests} == {1, 2, 3, 4, 5}
        assert oracle.expired
        assert len(oracle.notes) > 5
        assert {basis for _, _, basis, _ in oracle.alerts} == {"cap", "balance"}
        assert {percent for *_, percent in oracle.alerts} == {50, 80, 100}
        assert self.states == {"active", "grace", "limited", "suspended"}
        assert any(bill.tax for bill in oracle.bills)
        assert any(one.net < one.gross for one in oracle.bills)
        assert {"declined", "pending", "away", "lost", "paid"} <= self.outcomes


def _compare_bill(bill, row) -> None:
    made = row.invoice
    lines = {
        (int(one.month.replace("-", "")), one.deployment, one.tier_billed, one.sla_tier,
         one.card_version): [one.requests, one.prompt_tokens, one.cached_tokens,
                             one.completion_tokens, one.nano_usd]
        for one in made.lines
    }  # fmt: skip
    assert lines == bill.lines, bill.number
    told = (made.account, int(made.month.replace("-", "")), made.gross_cents, made.net_cents)
    assert told == (bill.account, bill.month, bill.gross, bill.net)
    assert (made.tax_cents, made.total_cents) == (bill.tax, bill.total)
    assert (made.prepaid_cents, made.due_cents) == (bill.prepaid, bill.due)
    assert (row.open_cents, row.credited_cents) == (bill.open, bill.credited), bill.number


def _near(told: float | None, values: list[float], ratio: float) -> None:
    """Check a quantile against its neighbours among the exact values; none: there is none."""
    if not values:
        assert told is None
        return
    ordered, rank = sorted(values), ratio * (len(values) - 1)
    assert ordered[math.floor(rank)] * 0.985 <= told <= ordered[math.ceil(rank)] * 1.015


@pytest.fixture
def folder():
    """A disk that needs no waiting for, where there is one."""
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    made = Path(tempfile.mkdtemp(dir=parent))
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("seed", [1])
async def test_a_year_of_billing_is_what_its_requests_come_to(folder, seed):
    year = Year(seed)
    async with coordinator(folder, year.provider, START) as world:
        await year.begin(world)
        closed = 0
        while world.clock() < END:
            await year.step()
            if year.oracle.closed != closed:
                closed = year.oracle.closed
                await year.compare_books()
                await year.compare_reports(closed)
                await year.compare_metrics()
                await year.move_raw()
        await year.compare_books()
        await year.compare_raw()
        await year.compare_pops()
        year.require_all_happened()
