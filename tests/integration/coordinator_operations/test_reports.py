"""Reports over months of synthetic usage, on a clock that is set."""

from __future__ import annotations

import pytest

from coordinator.core.sla_report import By
from coordinator.core.usage_sketches import ScopeFamily, SketchKind
from coordinator.fleet.live import LiveNode, NodeReport
from coordinator.fleet.utilisation_sampler import UtilisationSampler
from coordinator.usage.report_queries import grouped_sums, merged_quantiles
from coordinator.usage.reports import sketches
from coordinator.usage.rollups import Rollups
from coordinator.usage.utilisation import DAY_MS, MINUTE_MS, PopFill, add_sample
from protos.domain.errors import InvalidRequest, NotFound
from protos.domain.resources import SlaTier
from tests.support import usage_fleet
from tests.support.operations import NODE, actor
from tests.support.usage_fleet import HOUR_MS, record

#: 2026-11-28 12:00 UTC
NOW = usage_fleet.NOW_UNIX_MS


@pytest.fixture(autouse=True)
def now(fleet):
    fleet.clock.unix_ms = NOW


async def used(fleet, *records):
    """Count records as ingest does, past its checks."""
    rollups = Rollups()
    await fleet.usage_db.write(lambda connection: rollups.add(connection, records, (), 0))


def stream(number, account="acme", *, ms=40, began=NOW - HOUR_MS, **changes):
    return record(number, account, ttft_us=ms * 1_000, began_unix_ms=began, **changes)


async def test_an_sla_report_is_by_tier_and_region_with_latency_and_pace(fleet, ops):
    await used(
        fleet,
        *(stream(number, ms=number, sla_tier=SlaTier.REALTIME) for number in range(1, 101)),
        stream(101, ms=400, ingress_pop="IAD", predicted_miss=True),
    )
    report = await ops.reports.sla(actor())
    assert [(one.sla_tier, one.region) for one in report.lines] == [
        ("realtime", "BR"),
        ("standard", "US"),
    ]
    realtime, standard = report.lines
    assert realtime.first_token_ms_p50 == pytest.approx(50, rel=0.02)
    assert realtime.first_token_ms_p99 == pytest.approx(99, rel=0.02)
    assert realtime.tokens_per_s_p50 == pytest.approx(49 / 0.9, rel=0.02)
    assert (realtime.sums.streams, realtime.kept) == (100, True)
    assert (standard.sums.predicted_misses, standard.kept) == (1, False)


async def test_credits_are_of_whole_months_and_each_month_is_judged_by_itself(fleet, ops):
    october = NOW - 40 * DAY_MS
    late = [stream(number, ms=900, began=october) for number in range(10)]
    good = [stream(number, began=NOW - HOUR_MS) for number in range(10, 100)]
    await used(fleet, *late, *good)
    report = await ops.reports.sla(actor(), NOW - 45 * DAY_MS, NOW, By.ACCOUNT)
    assert [(one.month, one.credit.nano_usd > 0) for one in report.credits] == [
        (202610, True),
        (202611, False),
    ]
    charged = sum(one.nano_usd for one in late)
    assert report.owed_nano_usd == (charged * 10 + 50) // 100
    november = await ops.reports.sla(actor())
    assert november.owed_nano_usd == 0, "by default the month so far"
    assert [one.account for one in report.lines] == ["acme"]


async def test_a_report_of_no_time_or_of_years_is_refused(ops):
    for when in ((NOW, NOW - 1), (NOW - 500 * DAY_MS, NOW)):
        with pytest.raises(InvalidRequest):
            await ops.reports.sla(actor(), *when)


async def metrics(ops):
    return {one.name: one for one in await ops.reports.metrics(actor())}


async def test_the_figures_of_a_fleet_by_hand(fleet, ops):
    await used(
        fleet,
        *(stream(number) for number in range(100)),
        stream(100, account="blue", cold_path="swap", cold_us=500_000),
        stream(101, prompt_tokens=0, cached_tokens=0, completion_tokens=0, stream=False),
        stream(102, began=NOW - 45 * DAY_MS),
        stream(103, account="gone", began=NOW - 45 * DAY_MS),
    )
    await ops.reports.set_cost(actor(), "GRU", 7)
    for hour in range(24):
        at = NOW - DAY_MS + hour * HOUR_MS
        fills = {"GRU": PopFill(0.7, 1), "IAD": PopFill(0.1, 1)}
        await fleet.usage_db.write(add_sample(at, fills))
    found = await metrics(ops)
    assert found["paid_requests_a_week"].value == 101
    assert found["paying_accounts"].value == 2
    assert found["first_token_p99"].value == pytest.approx(40, rel=0.02)
    assert found["tier_sla_met"].met
    assert found["cold_start_p99"].value == pytest.approx(500, rel=0.02)
    assert found["edge_utilisation"].value == pytest.approx(70.0)
    one = stream(1).nano_usd
    assert found["gross_margin"].value == pytest.approx(
        100 * (101 * one - 30 * 24 * 7) / (101 * one)
    )
    # acme and gone paid one request each before, acme a hundred now; blue is new
    assert found["net_revenue_retention_30d"].value == pytest.approx(100 * 100 / 2)
    assert found["edge_premium_most"].value == pytest.approx(20.0)


async def test_pops_under_half_for_sixty_days_are_proposed_with_their_margin(fleet, ops):
    midnight = NOW - NOW % DAY_MS

    def months(connection):
        for day in range(1, 121):
            for minute in range(0, 1_440, 9):
                at = midnight - day * DAY_MS + minute * MINUTE_MS
                busy = day > 60  # IAD was busy until 60 days ago
                fills = {"GRU": PopFill(0.2, 1), "IAD": PopFill(0.9 if busy else 0.6, 2)}
                add_sample(at, fills)(connection)

    await fleet.usage_db.write(months)
    await used(fleet, stream(1, began=midnight - DAY_MS))
    await ops.reports.set_cost(actor(), "GRU", 5)
    report = await ops.reports.pops(actor())
    gru, iad = report.pops
    assert (gru.pop_id, gru.verdict, gru.days_seen) == ("GRU", "retire", 60)
    assert gru.utilisation_ratio == pytest.approx(0.2)
    assert gru.margin_nano_usd == stream(1).nano_usd - 60 * 24 * 5
    assert (iad.pop_id, iad.verdict, iad.has_cost) == ("IAD", "keep", False)
    longer = {one.pop_id: one.verdict for one in (await ops.reports.pops(actor(), 200)).pops}
    assert longer == {"GRU": "too early", "IAD": "keep"}
    with pytest.raises(InvalidRequest):
        await ops.reports.pops(actor(), 1_000)


@pytest.mark.parametrize("nano_usd", [-1, 10**15])
async def test_an_impossible_cost_is_refused(ops, nano_usd):
    with pytest.raises(InvalidRequest):
        await ops.reports.set_cost(actor(), "GRU", nano_usd)


async def test_a_cost_of_an_unknown_pop_is_refused(ops):
    with pytest.raises(NotFound):
        await ops.reports.set_cost(actor(), "XXX", 1)


@pytest.fixture
def sampler(fleet):
    return UtilisationSampler(fleet.store, fleet, fleet.usage_db, fleet.clock)


def reports_fill(fleet, node_id, fill_ratio, *, connected=True, age_s=1.0):
    fleet.nodes[node_id] = LiveNode(connected, age_s, NodeReport(fill_ratio=fill_ratio))


async def hours(fleet):
    return await fleet.usage_db.read(
        lambda connection: connection.execute(
            "SELECT pop_id, samples, fill_ppm, nodes FROM pop_utilisation ORDER BY 1"
        ).fetchall()
    )


async def test_fills_are_sampled_by_pop_and_a_minute_is_counted_once(fleet, sampler):
    reports_fill(fleet, NODE, 0.25)
    reports_fill(fleet, "iad-1", 0.5)
    await sampler.sample()
    await sampler.sample()
    assert await hours(fleet) == [("GRU", 1, 250_000, 1), ("IAD", 1, 500_000, 1)]
    fleet.clock.unix_ms += MINUTE_MS
    await sampler.sample()
    assert (await hours(fleet))[0] == ("GRU", 2, 500_000, 2)


async def test_a_clock_set_back_counts_no_minute_twice(fleet, sampler):
    reports_fill(fleet, NODE, 0.25)
    fleet.clock.unix_ms = NOW + 5 * MINUTE_MS
    await sampler.sample()
    fleet.clock.unix_ms = NOW
    await sampler.sample()
    assert (await hours(fleet))[0] == ("GRU", 1, 250_000, 1)


@pytest.mark.parametrize(
    ("fill_ratio", "connected", "age_s"), [(None, True, 1.0), (0.5, False, 1.0), (0.5, True, 60.0)]
)
async def test_a_node_that_says_nothing_is_not_taken_for_idle(
    fleet, sampler, fill_ratio, connected, age_s
):
    reports_fill(fleet, NODE, fill_ratio, connected=connected, age_s=age_s)
    assert await sampler.sample() == {}
    assert await hours(fleet) == []


async def test_sums_by_day_are_those_of_their_minutes_however_they_came(fleet):
    began = NOW - 3 * DAY_MS
    for number in range(60):  # each minute of a day once, then again, then late for another month
        await used(fleet, stream(number, began=began + (number % 20) * 3 * HOUR_MS))
    minutes = await fleet.usage_db.read(_sums_of("minute_unix_ms", "sums"))
    assert minutes == await fleet.usage_db.read(_sums_of("day_unix_ms", "day_sums"))
    assert len(minutes) == 3


@pytest.mark.parametrize(
    ("from_ms", "until_ms"),
    [
        (0, 5 * DAY_MS),
        (HOUR_MS, 3 * DAY_MS + HOUR_MS),
        (DAY_MS, DAY_MS + HOUR_MS),
        (HOUR_MS, DAY_MS - HOUR_MS),
        (23 * HOUR_MS, 25 * HOUR_MS),
    ],
)
async def test_a_time_of_days_and_parts_of_days_counts_each_minute_once(fleet, from_ms, until_ms):
    midnight = NOW - NOW % DAY_MS - 5 * DAY_MS
    await used(fleet, *(stream(hour, began=midnight + hour * HOUR_MS) for hour in range(5 * 24)))
    rows = await fleet.usage_db.read(
        grouped_sums(("account",), midnight + from_ms, midnight + until_ms)
    )
    assert sum(sums.requests for _, sums in rows) == (until_ms - from_ms) // HOUR_MS


def _sums_of(column, table):
    return lambda connection: connection.execute(
        f"SELECT {column} / {DAY_MS} AS day, dimension_id, booked_month, sum(requests),"
        f" sum(nano_usd), sum(completion_tokens) FROM {table} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    ).fetchall()


@pytest.mark.parametrize("from_hour", [0, 1, 30])
@pytest.mark.parametrize("until_hour", [47, 48, 100])
async def test_quantiles_over_days_and_parts_of_days_are_those_of_their_buckets(
    fleet, from_hour, until_hour
):
    midnight = NOW - NOW % DAY_MS - 5 * DAY_MS
    for repeat in range(2):  # the second time rows are updated
        await used(
            fleet,
            *(stream(h, ms=h + 1 + repeat, began=midnight + h * HOUR_MS) for h in range(5 * 24)),
        )
    when = (midnight + from_hour * HOUR_MS, midnight + until_hour * HOUR_MS)
    found = await fleet.usage_db.read(
        merged_quantiles(
            SketchKind.FIRST_TOKEN, ScopeFamily.POP, *when, lambda *scope: scope, (0.5, 0.99)
        )
    )
    whole = await fleet.usage_db.read(sketches(SketchKind.FIRST_TOKEN, ScopeFamily.POP, *when))
    assert found == {
        scope: (sketch.quantile(0.5), sketch.quantile(0.99)) for scope, sketch in whole.items()
    }
