"""Starts the coordinator's parts and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from coordinator import clock
from coordinator.assembly import Fleet, Usage, make_fleet, make_operations, make_usage
from coordinator.blobs.opening import open_blobs
from coordinator.ca.authority import CertificateAuthority
from coordinator.first_run import check_ports_free
from coordinator.fleet.blob_upkeep import BlobUpkeep, make_blob_upkeep
from coordinator.host_operators import adopt_operators
from coordinator.hub.adoption_watch import AdoptionWatch
from coordinator.hub.assembly import make_hub
from coordinator.listeners import make_http, make_servers
from coordinator.native_log import NativeLog
from coordinator.operations.operator_certificates import OperatorCertificates
from coordinator.rpc.running_calls import RunningCalls
from coordinator.rpc.server_credentials import ServerCredentials
from coordinator.store.records import AuditNote
from coordinator.store.store import Store
from coordinator.usage.database import UsageDatabase
from protos.host.ownership import require_usable

if TYPE_CHECKING:
    from coordinator.config import CoordinatorConfig

_log = logging.getLogger(__name__)


async def serve(
    config: CoordinatorConfig, stop: asyncio.Event, on_ready: Callable[[], None]
) -> None:
    """Run a coordinator until ``stop`` is set.

    Raises: ConfigInvalid (a port in use, state of another user, a readable key), NotFound before
    `init`, Conflict when another process runs it, StoreUnavailable.
    """
    require_usable(config.state_dir, leave_out=config.operators_dir.name)
    check_ports_free(config)
    authority = CertificateAuthority.load(config.ca_dir, now_unix_ms=clock.now_unix_ms)
    async with _opened_store(config) as store, _opened_usage(config) as usage_db:
        await adopt_operators(config, store, authority, clock.now_unix_ms)
        blobs = await open_blobs(config, clock.now_unix_ms)
        fleet = make_fleet(config, store, authority, blobs)
        credentials = ServerCredentials(authority, config.coordinator.name, clock.now_unix_ms)
        operator_certificates = OperatorCertificates(store, authority, clock.now_unix_ms)
        calls = RunningCalls()
        usage = await make_usage(config, usage_db, store, blobs)
        operations = make_operations(
            config, store, authority.sha256_hex, blobs, fleet, operator_certificates, calls, usage
        )
        servers = make_servers(
            config,
            store,
            authority,
            credentials,
            fleet,
            operations,
            operator_certificates,
            calls,
            usage,
        )
        watch = AdoptionWatch(operations, poll_s=config.upstream.poll_s)
        hub = make_hub(config, store, authority, operations, blobs)
        replan = fleet.supervisor.plan_again
        upkeep = make_blob_upkeep(
            store,
            blobs,
            config.blobs,
            fleet.counters,
            clock.now_unix_ms,
            replan,
            also_named=usage.exports.named,
        )
        stopping = asyncio.Event()
        http = make_http(config, store, fleet, usage, stopping)
        native = _watch_handshakes(fleet)
        try:
            for server in servers:
                await server.start()
            await http.start()
            if hub is not None:
                await hub.start()
            async with asyncio.TaskGroup() as group:
                running = _start_work(group, fleet, credentials, upkeep, watch, usage)
                _log.info("coordinator ready epoch=%d state_dir=%s", store.epoch, config.state_dir)
                on_ready()
                await stop.wait()
                _log.info("coordinator stopping")
                stopping.set()
                fleet.registry.stop()
                grace_s = config.limits.stop_grace_ms / 1_000
                await asyncio.gather(*(server.stop(grace_s) for server in servers))
                for task in running:
                    task.cancel()
        finally:
            await asyncio.gather(*(server.stop(0) for server in servers))
            await http.close()
            if hub is not None:
                await hub.close()
            native.close()
    _log.info("coordinator stopped")


def _start_work(
    group: asyncio.TaskGroup,
    fleet: Fleet,
    credentials: ServerCredentials,
    upkeep: BlobUpkeep,
    watch: AdoptionWatch,
    usage: Usage,
) -> list[asyncio.Task[None]]:
    """Start what runs beside the listeners."""
    return [
        group.create_task(fleet.registry.beat(), name="beat"),
        group.create_task(fleet.registry.push_rounds(), name="push-rounds"),
        group.create_task(fleet.supervisor.run(), name="supervisor"),
        group.create_task(fleet.dialer.run(), name="peer-dials"),
        group.create_task(credentials.run(), name="server-certificate"),
        *upkeep.start(group),
        group.create_task(watch.run(), name="adoption"),
        group.create_task(usage.upkeep.run(), name="usage-upkeep"),
    ]


def _watch_handshakes(fleet: Fleet) -> NativeLog:
    """Log and audit TLS clients without a valid certificate."""
    loop = asyncio.get_running_loop()
    under_way: set[asyncio.Task[None]] = set()

    def record(cause: str) -> None:
        fleet.counters.handshakes_refused += 1
        if under_way:
            return  # one at a time: a flood is counted, not queued
        note = AuditNote("anonymous@unknown", "tls.refused", "fleet or admin listener", cause)
        task = loop.create_task(fleet.refusals.record(note))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    def on_refused(cause: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(record, cause)

    native = NativeLog(on_refused)
    native.start()
    return native


@contextlib.asynccontextmanager
async def _opened_store(config: CoordinatorConfig) -> AsyncIterator[Store]:
    store = await Store.open(config.database, now_unix_ms=clock.now_unix_ms, must_exist=True)
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def _opened_usage(config: CoordinatorConfig) -> AsyncIterator[UsageDatabase]:
    database = await UsageDatabase.open(config.usage_database, clock.now_unix_ms)
    try:
        yield database
    finally:
        await database.close()
