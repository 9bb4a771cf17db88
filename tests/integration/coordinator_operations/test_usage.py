"""Usage as operators and customers read it, and what is done with the quarantine."""

from __future__ import annotations

import dataclasses

import pytest

from coordinator.core.usage_checks import KnownFleet
from coordinator.operations.actor import Actor
from coordinator.usage.exports import LineFilter
from coordinator.usage.ingest import Ingest
from coordinator.usage.reports import UsageQuery
from protos.domain.errors import Conflict, InvalidRequest, NotFound
from protos.domain.usage_counters import CounterSums
from protos.domain.usage_record import UsageSums, add_record, key_of
from protos.wire.usage import encode_counters
from tests.support.usage_fleet import NOW_UNIX_MS, batch, record, view

COST = record().nano_usd


@pytest.fixture
async def used(fleet, ops):
    """One request of each of two accounts, and one that is not believed: row 2."""
    fleet.clock.unix_ms = NOW_UNIX_MS
    ingest = Ingest(fleet.usage_db, known=KnownFleet())
    ingest.saw(view(accounts=("acme", "globex")))
    greedy = dataclasses.replace(record(3), nano_usd=10**12)
    await ingest.push(batch([record(1), record(2, "globex"), greedy]))
    return ops


async def lines(operations, who, wanted=None):
    pages = await operations.usage.export(who, wanted or LineFilter())
    return [one.record.account for page in [page async for page in pages] for one in page]


async def test_an_account_reads_its_own_usage_whatever_it_asks_for(fleet, used):
    acme = Actor.of_account("acme")
    [row] = await used.usage.sums(acme, UsageQuery(account="globex"))
    assert row.sums.requests == 1
    assert await lines(used, acme, LineFilter(account="globex")) == ["acme"]
    assert await lines(used, fleet.admin) == ["acme", "globex"]
    [row] = await used.usage.sums(fleet.admin, UsageQuery())
    assert (row.sums.requests, row.sums.nano_usd) == (2, 2 * COST)


async def test_what_an_admin_releases_is_counted_once(fleet, used):
    held = await used.usage.quarantine(fleet.admin, "held")
    assert [(row.id, row.kind) for row in held] == [(1, "damaged"), (2, "record")]
    await used.usage.settle(fleet.admin, [2], count=True)
    [row] = await used.usage.sums(fleet.admin, UsageQuery())
    assert (row.sums.requests, row.sums.nano_usd) == (3, 2 * COST + 10**12)
    assert await lines(used, fleet.admin) == ["acme", "globex", "acme"]
    with pytest.raises(Conflict, match="2 was released by operator/ana"):
        await used.usage.settle(fleet.admin, [2], count=True)
    [row] = await used.usage.sums(fleet.admin, UsageQuery())
    assert row.sums.requests == 3
    assert ("operator/ana", "usage.settle", "usage/quarantine", "released 2") in (
        await fleet.notes()
    )


async def test_what_an_admin_dismisses_is_never_counted(fleet, used):
    await used.usage.settle(fleet.admin, [1, 2], count=False)
    [row] = await used.usage.sums(fleet.admin, UsageQuery())
    assert row.sums.requests == 2
    settled = await used.usage.quarantine(fleet.admin, "dismissed")
    assert [(row.id, row.settled_by) for row in settled] == [
        (1, "operator/ana"),
        (2, "operator/ana"),
    ]
    assert await used.usage.quarantine(fleet.admin, "held") == []


async def test_sums_that_were_held_are_counted_when_they_are_released(fleet, used):
    one = record(9)
    sums = UsageSums()
    add_record(sums, one)
    sums.nano_usd = 10**12
    payload = encode_counters(key_of(one), sums)
    ingest = Ingest(fleet.usage_db, known=KnownFleet())
    ingest.saw(view())
    counters = CounterSums(key_of(one), sums, payload=payload)
    outcome = await ingest.push(batch(first=4, counters=[counters]))
    assert outcome.quarantined == 1
    await used.usage.settle(fleet.admin, [3], count=True)
    [row] = await used.usage.sums(fleet.admin, UsageQuery())
    assert (row.sums.requests, row.sums.nano_usd) == (3, 2 * COST + 10**12)


async def test_what_holds_no_record_or_is_not_there_cannot_be_released(fleet, used):
    with pytest.raises(InvalidRequest, match="no record to count"):
        await used.usage.settle(fleet.admin, [1, 2], count=True)
    with pytest.raises(NotFound, match="nothing in quarantine is 99"):
        await used.usage.settle(fleet.admin, [99], count=False)
    with pytest.raises(InvalidRequest, match="different rows"):
        await used.usage.settle(fleet.admin, [2, 2], count=False)
    with pytest.raises(InvalidRequest, match="different rows"):
        await used.usage.settle(fleet.admin, [], count=False)
    with pytest.raises(InvalidRequest, match="no state"):
        await used.usage.quarantine(fleet.admin, "lost")
    assert len(await used.usage.quarantine(fleet.admin, "held")) == 2
