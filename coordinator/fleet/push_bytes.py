"""Pushes as bytes: serialised once for all agents that need the same one.

Only the nonce differs between agents. It is appended to the shared bytes, since the fields of a
message may come in any order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.fleet.table_scopes import table_scope
from protos.domain.resources import ResourceType
from protos.domain.routing_table import Delta, Snapshot, Table, TableVersion
from protos.v1 import fleet_pb2
from protos.wire import delta_to_wire, snapshot_to_wire

if TYPE_CHECKING:
    from coordinator.core.fleet_figures import FleetCounters
    from coordinator.store.store import Store

#: Bodies cached: one for each type and zone and, while agents lag, for each version they hold.
MAX_BODIES = 64
#: Bytes cached in all; tables that do not fit are serialised again for each agent.
MAX_KEPT_BYTES = 256 * 1024 * 1024
#: Tables above this size are serialised in a thread, to keep the event loop free.
_THREAD_ABOVE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class PushBytes:
    """One serialised message and the version it leads to."""

    data: bytes
    at: TableVersion
    is_delta: bool


@dataclass(frozen=True, slots=True)
class _Body:
    field_number: int
    data: bytes
    at: TableVersion


_Key = tuple[ResourceType, str, int | None, bool]


class PushEncoder:
    """Serialises pushes of the present tables. One instance for all sessions."""

    def __init__(self, store: Store, counters: FleetCounters) -> None:
        self._store = store
        self._counters = counters
        self._bodies: dict[_Key, _Body] = {}
        self._kept_bytes = 0
        self._making = asyncio.Lock()

    def scope(self, resource_type: ResourceType, node_id: str) -> str:
        """Return the scope of the table that ``node_id`` is sent."""
        return table_scope(self._store, resource_type, node_id)

    async def snapshot(
        self, resource_type: ResourceType, scope: str, nonce: int, *, forced: bool
    ) -> PushBytes:
        """Return the whole present table."""
        body = await self._body((resource_type, scope, None, forced))
        return _framed(body, nonce)

    async def delta(
        self, resource_type: ResourceType, scope: str, from_version: int, nonce: int
    ) -> PushBytes:
        """Return the delta from ``from_version`` to the present table, or else a snapshot."""
        delta = await self._store.delta_since(resource_type, scope, from_version)
        if delta is None or len(delta.upserts) >= len(self._store.table(resource_type, scope).rows):
            return await self.snapshot(resource_type, scope, nonce, forced=False)
        body = await self._body((resource_type, scope, from_version, False), delta)
        return _framed(body, nonce)

    async def _body(self, key: _Key, delta: Delta | None = None) -> _Body:
        resource_type, scope, _, _ = key
        table = self._store.table(resource_type, scope)
        if resource_type is ResourceType.DESIRED:
            return await self._made(table, delta, key)
        # Callers that arrive meanwhile await the same body instead of making another.
        async with self._making:
            table = self._store.table(resource_type, scope)
            if delta is not None and delta.to_version != table.at.version:
                delta = await self._store.delta_since(resource_type, scope, delta.from_version)
            kept = self._bodies.get(key)
            if kept is not None and kept.at == table.at:
                return kept
            body = await self._made(table, delta, key)
            self._keep(key, body)
            return body

    async def _made(self, table: Table, delta: Delta | None, key: _Key) -> _Body:
        self._counters.pushes_serialised += 1
        make: Callable[[], _Body]
        if delta is not None:

            def make() -> _Body:
                return _delta_body(delta)
        else:

            def make() -> _Body:
                return _snapshot_body(table, forced=key[3])

        if table.size_bytes > _THREAD_ABOVE_BYTES:
            return await asyncio.to_thread(make)
        return make()

    def _keep(self, key: _Key, body: _Body) -> None:
        for other, kept in list(self._bodies.items()):
            if other[0] is key[0] and kept.at != body.at:
                self._drop(other)
        if key in self._bodies:
            self._drop(key)
        self._bodies[key] = body
        self._kept_bytes += len(body.data)
        while len(self._bodies) > MAX_BODIES or self._kept_bytes > MAX_KEPT_BYTES:
            self._drop(next(iter(self._bodies)))

    def _drop(self, key: _Key) -> None:
        self._kept_bytes -= len(self._bodies.pop(key).data)


def _snapshot_body(table: Table, *, forced: bool) -> _Body:
    snapshot = Snapshot(table.type, table.at, table.rows, table.digest, forced)
    message = snapshot_to_wire(snapshot, nonce=0)
    return _Body(_SNAPSHOT_FIELD, message.SerializeToString(), table.at)


def _delta_body(delta: Delta) -> _Body:
    message = delta_to_wire(delta, nonce=0)
    at = TableVersion(delta.epoch, delta.to_version)
    return _Body(_DELTA_FIELD, message.SerializeToString(), at)


def _framed(body: _Body, nonce: int) -> PushBytes:
    """Return the CoordinatorMessage that carries ``body`` with its nonce."""
    if body.field_number == _SNAPSHOT_FIELD:
        tail = fleet_pb2.Snapshot(nonce=nonce).SerializeToString()
    else:
        tail = fleet_pb2.Delta(nonce=nonce).SerializeToString()
    head = _varint(body.field_number << 3 | _LENGTH_DELIMITED)
    data = b"".join((head, _varint(len(body.data) + len(tail)), body.data, tail))
    return PushBytes(data, body.at, is_delta=body.field_number == _DELTA_FIELD)


def _varint(value: int) -> bytes:
    """Source: protobuf encoding guide, "Base 128 Varints"."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_LENGTH_DELIMITED = 2
_SNAPSHOT_FIELD = fleet_pb2.CoordinatorMessage.SNAPSHOT_FIELD_NUMBER
_DELTA_FIELD = fleet_pb2.CoordinatorMessage.DELTA_FIELD_NUMBER
