from __future__ import annotations

import asyncio
from typing import Any

import pytest

from coordinator.core.fleet_figures import FleetCounters
from coordinator.fleet.push_bytes import MAX_BODIES, PushEncoder
from protos.domain.resources import ResourceType
from protos.domain.routing_table import Delta, Table, TableVersion, apply, diff, table_of
from protos.v1 import fleet_pb2
from protos.wire import delta_from_wire, snapshot_from_wire

TOPOLOGY = ResourceType.TOPOLOGY


class Tables:
    """Stands where the store stands: tables by version."""

    def __init__(self, rows: int = 50, row_bytes: int = 10) -> None:
        self.present = self._table(1, rows, row_bytes)
        self.past = {1: self.present}

    def table(self, resource_type: ResourceType, scope: str = "") -> Table:
        return self.present

    async def delta_since(self, resource_type: ResourceType, scope: str, version: int):
        old = self.past.get(version)
        return None if old is None else diff(old, self.present)

    def change(self, **rows: bytes) -> None:
        at = TableVersion(1, self.present.at.version + 1)
        self.present = table_of(TOPOLOGY, at, {**self.present.rows, **rows})
        self.past[at.version] = self.present

    def _table(self, version: int, rows: int, row_bytes: int) -> Table:
        return table_of(
            TOPOLOGY,
            TableVersion(1, version),
            {f"row/{index}": bytes(row_bytes) for index in range(rows)},
        )


def encoder(tables: Tables) -> tuple[PushEncoder, FleetCounters]:
    counters = FleetCounters()
    stand_in: Any = tables
    return PushEncoder(stand_in, counters), counters


def parsed(data: bytes) -> fleet_pb2.CoordinatorMessage:
    return fleet_pb2.CoordinatorMessage.FromString(data)


async def test_a_snapshot_is_made_once_and_only_the_nonce_differs():
    tables = Tables()
    making, counters = encoder(tables)
    pushes = [await making.snapshot(TOPOLOGY, "", nonce, forced=False) for nonce in (1, 300)]
    messages = [parsed(push.data).snapshot for push in pushes]
    assert [message.nonce for message in messages] == [1, 300]
    for message, push in zip(messages, pushes, strict=True):
        assert not push.is_delta
        assert push.at == tables.present.at
        snapshot = snapshot_from_wire(message)
        assert snapshot.rows == tables.present.rows
        assert snapshot.digest == tables.present.digest
    assert counters.pushes_serialised == 1


async def test_a_forced_push_is_marked():
    making, _ = encoder(Tables())
    await making.snapshot(TOPOLOGY, "", 1, forced=False)
    push = await making.snapshot(TOPOLOGY, "", 2, forced=True)
    assert parsed(push.data).snapshot.forced


async def test_a_delta_leads_to_the_present_table():
    tables = Tables()
    before = tables.present
    tables.change(new=b"1")
    making, counters = encoder(tables)
    for nonce in (7, 8, 9):
        push = await making.delta(TOPOLOGY, "", 1, nonce)
        assert push.is_delta
        message = parsed(push.data).delta
        assert message.nonce == nonce
        assert apply(before, delta_from_wire(message)) == tables.present
    assert counters.pushes_serialised == 1


async def test_a_newer_table_replaces_the_cached_body():
    tables = Tables()
    making, counters = encoder(tables)
    await making.snapshot(TOPOLOGY, "", 1, forced=False)
    tables.change(new=b"1")
    push = await making.snapshot(TOPOLOGY, "", 2, forced=False)
    assert push.at.version == 2
    assert "new" in snapshot_from_wire(parsed(push.data).snapshot).rows
    assert counters.pushes_serialised == 2


async def test_without_the_changes_a_delta_becomes_a_snapshot():
    tables = Tables()
    making, _ = encoder(tables)
    assert not (await making.delta(TOPOLOGY, "", 99, 1)).is_delta


async def test_a_delta_larger_than_the_table_is_a_snapshot():
    tables = Tables(rows=0)
    tables.change(one=b"1", two=b"2")
    making, _ = encoder(tables)
    assert not (await making.delta(TOPOLOGY, "", 1, 1)).is_delta


async def test_a_large_table_is_serialised_once_for_concurrent_callers():
    tables = Tables(rows=3_000, row_bytes=200)
    making, counters = encoder(tables)
    pushes = await asyncio.gather(
        *(making.snapshot(TOPOLOGY, "", nonce, forced=False) for nonce in range(1, 51))
    )
    assert counters.pushes_serialised == 1
    assert parsed(pushes[-1].data).snapshot.nonce == 50


async def test_a_change_during_serialisation_is_not_lost():
    tables = Tables(rows=3_000, row_bytes=200)
    making, _ = encoder(tables)
    tables.change(first=b"1")
    waiting = [asyncio.ensure_future(making.delta(TOPOLOGY, "", 1, nonce)) for nonce in range(1, 5)]
    await asyncio.sleep(0)
    tables.change(second=b"2")
    for push in await asyncio.gather(*waiting):
        message = parsed(push.data).delta
        delta: Delta = delta_from_wire(message)
        assert apply(tables.past[1], delta).at == push.at
    last = await making.delta(TOPOLOGY, "", 1, 9)
    assert set(delta_from_wire(parsed(last.data).delta).upserts) == {"first", "second"}


async def test_cached_bodies_are_bounded():
    tables = Tables(rows=500)
    for index in range(MAX_BODIES * 2):
        tables.change(row=b"%d" % index)
    making, _ = encoder(tables)
    for version in range(1, MAX_BODIES * 2):
        await making.delta(TOPOLOGY, "", version, version)
    assert len(making._bodies) <= MAX_BODIES


@pytest.mark.parametrize("nonce", [1, 127, 128, 2**32, 2**63])
async def test_any_nonce_survives(nonce: int):
    making, _ = encoder(Tables())
    push = await making.snapshot(TOPOLOGY, "node", nonce, forced=False)
    assert parsed(push.data).snapshot.nonce == nonce
