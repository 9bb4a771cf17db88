"""An agent's link and tables in this process, without the rest of the agent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from agent.clock import now_mono_ms, now_unix_ms
from agent.core.backoff import BackoffPolicy
from agent.link.channel import node_channel
from agent.link.identity import load_stored
from agent.link.status import CredentialsAge
from agent.link.stream import FleetLink, LinkCallbacks, have_of
from agent.link.tables import TableKeeper
from protos.domain.fleet_view import FleetView
from protos.domain.resources import Resource, ResourceType, row_key
from protos.domain.routing_table import Snapshot, Table, TableVersion, diff, table_of
from protos.v1 import fleet_pb2
from protos.wire import delta_to_wire, encode_row, snapshot_to_wire
from tests.support.scripted_coordinator import NODE_ID, ScriptedCoordinator


class LinkedAgent:
    """The parts that a test checks."""

    def __init__(self, coordinator: ScriptedCoordinator, identity_dir: Path) -> None:
        self.views: list[FleetView] = []
        self.credentials = CredentialsAge(now_mono_ms)
        self.tables = TableKeeper(now_mono_ms, lambda view, _changed: self.views.append(view))
        self.queries: list[fleet_pb2.Query] = []
        self.link = FleetLink(
            LinkCallbacks(
                make_channel=lambda: node_channel(coordinator.address, load_stored(identity_dir)),
                make_hello=lambda: fleet_pb2.Hello(node_id=NODE_ID, have=have_of(self.tables)),
                make_status=fleet_pb2.Status,
                answer=self._answer,
                now_mono_ms=now_mono_ms,
                now_unix_ms=now_unix_ms,
                draw=lambda: 0.1,
            ),
            self.tables,
            self.credentials,
            status_interval_ms=100.0,
            reconnect=BackoffPolicy(base_ms=50.0, cap_ms=200.0),
        )

    async def _answer(self, query: fleet_pb2.Query) -> fleet_pb2.Answer:
        self.queries.append(query)
        return fleet_pb2.Answer()

    def table(self, kind: ResourceType) -> Table:
        return self.tables.tables[kind]


@contextlib.asynccontextmanager
async def linked(coordinator: ScriptedCoordinator, folder: Path) -> AsyncIterator[LinkedAgent]:
    """Run a link to ``coordinator`` with an identity of its authority."""
    coordinator.enrol(folder)
    agent = LinkedAgent(coordinator, folder)
    running = asyncio.create_task(agent.link.run())
    try:
        yield agent
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def table_with(resources: Iterable[Resource], version: int, *, epoch: int = 1) -> Table:
    """Return the table that carries ``resources``, all of one type."""
    rows = {row_key(one): encode_row(one) for one in resources}
    (kind,) = {resource_type_of(one) for one in resources}
    return table_of(kind, TableVersion(epoch, version), rows)


def resource_type_of(resource: Resource) -> ResourceType:
    from protos.domain.resources import resource_type

    return resource_type(resource)


def snapshot_message(table: Table, *, forced: bool = False) -> fleet_pb2.Snapshot:
    push = Snapshot(table.type, table.at, table.rows, table.digest, forced)
    return snapshot_to_wire(push, nonce=0)


def delta_message(old: Table, new: Table) -> fleet_pb2.Delta:
    return delta_to_wire(diff(old, new), nonce=0)
