"""Assembles the agent; the parts that serve requests are assembled in ``data_plane``."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from agent.admin.server import AdminServer
from agent.artifacts.assembly import make_objects
from agent.artifacts.shelf import PieceShelf
from agent.clock import now_mono_ms, now_unix_ms
from agent.core.backoff import BackoffPolicy
from agent.core.renewal import RenewalMachine
from agent.data_plane import DataPlane
from agent.drain_state import DrainState
from agent.engine.process import require_engine_environment
from agent.engines import host_capacity, make_replicas, own_devices
from agent.gpu.reader import chosen_kind
from agent.gpu.watch import GpuWatch
from agent.link.blobs import BlobSource
from agent.link.channel import node_channel
from agent.link.identity import CurrentIdentity, use_in
from agent.link.persistence import TablePersistence
from agent.link.quota import make_quota_link
from agent.link.removal import Removal
from agent.link.renewal import Renewal
from agent.link.status import CredentialsAge
from agent.link.stream import FleetLink, LinkCallbacks
from agent.link.tables import TableKeeper
from agent.observability.agent_status import AgentStatus
from agent.observability.prometheus import make_registry
from agent.observability.server import MetricsServer
from agent.open_files import take_descriptors
from agent.query_handler import QueryHandler
from agent.state_folder import open_identity
from agent.state_lock import lock_state_dir
from agent.status_report import StatusReport
from agent.tasks import Background
from agent.usage import Usage
from protos.build_info import build_info
from protos.domain.resources import ResourceType
from protos.host.service_manager import notify_ready, notify_stopping

if TYPE_CHECKING:
    from grpc import aio

    from agent.config import AgentConfig
    from agent.core.engine_status import EngineStatus
    from agent.link.identity import StoredIdentity
    from protos.domain.fleet_view import FleetView

_log = logging.getLogger(__name__)

_CERTIFICATE_CHECK_S = 30.0
#: Tables that say what may be held in which zone.
_ZONES_ARE_OF = frozenset({ResourceType.DEPLOYMENTS, ResourceType.TOPOLOGY, ResourceType.DESIRED})
#: The link does not wait longer for the first reading of the accelerators.
_FIRST_READING_TIMEOUT_S = 3.0
#: Longest that another thread holds the interpreter; a token may take Python's default, 5 ms.
SWITCH_INTERVAL_S = 0.000_5
#: Requests create no reference cycles, so that the collector may run rarely.
GC_THRESHOLDS = (50_000, 20, 50)


def run(config: AgentConfig) -> None:
    """Run the agent until SIGTERM or SIGINT. Raises: ConfigInvalid when it cannot start."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(*GC_THRESHOLDS)
    uvloop.run(_run(config))


async def _run(config: AgentConfig) -> None:
    with lock_state_dir(config.state_dir), lock_state_dir(config.usage_dir):
        agent = Agent(config)
        await agent.run()


class Agent:
    """All parts of one agent, built in the order of their dependencies."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self._draw = random.Random().random
        stored, self._files = open_identity(config)
        self._renewal_machine = RenewalMachine(self._draw())
        self._identity = CurrentIdentity(
            stored,
            config.client_url,
            now_unix_ms=lambda: self._link.clock.now_unix_ms(),
            renewal_error=lambda: self._renewal_machine.last_error,
        )
        if config.engine.kind == "vllm":
            require_engine_environment(Path(config.engine.venv).absolute())
        self._background = Background(max_tasks=32)
        self._stop = asyncio.Event()
        self._build_tables()
        self._build_replicas()
        self._build_data_plane()
        self._build_link()
        self._build_surfaces()

    # -- assembly --------------------------------------------------------------------------------

    def _build_tables(self) -> None:
        self._credentials = CredentialsAge(now_mono_ms, self._config.limits.credentials_max_age_s)
        self._tables = TableKeeper(now_mono_ms, self._on_view_changed)
        self._persistence = TablePersistence(
            self._files, self._tables, self._credentials, now_unix_ms
        )

    def _build_replicas(self) -> None:
        config = self._config
        self._objects = make_objects(
            config, BlobSource(self._channel), view=lambda: self._tables.view, draw=self._draw
        )
        self._replicas = make_replicas(
            config,
            self._objects,
            now_mono_ms=now_mono_ms,
            draw=self._draw,
            on_engine=self._on_engine,
            on_change=self._on_engines,
            relayed_mono_ms=lambda: self._plane.fill.counted_mono_ms,
        )

    def _build_data_plane(self) -> None:
        config, identity = self._config, self._identity.value
        self._drain_state = DrainState(identity.node_id)
        self._removal = Removal(
            config.identity_dir, identity.owner, now_unix_ms, self._on_membership
        )
        self._gpu = GpuWatch(
            chosen_kind(config.gpu.kind),
            interval_ms=config.gpu.interval_ms,
            deadline_ms=config.gpu.deadline_ms,
            now_mono_ms=now_mono_ms,
            draw=self._draw,
            on_change=self._on_accelerators,
            devices=own_devices(config),
        )
        self._usage = Usage(
            config, identity.pop_id, self._channel, lambda: self._link.clock.now_unix_ms()
        )
        self._quota = make_quota_link(self._channel, self._draw)
        self._usage.shipper.on_counted = self._quota.limits.unsettled.counted
        self._plane = DataPlane(
            config,
            identity,
            lambda context: use_in(context, self._identity.stored),
            view=lambda: self._tables.view,
            replicas=self._replicas,
            drain_state=self._drain_state,
            require_credentials=self._require_credentials,
            quota=self._quota,
            ready=lambda: not self.status.missing(),
            draw=self._draw,
            descriptors=take_descriptors(config),
            shelf=PieceShelf(self._objects),
            meter=self._usage.spool,
            clock_offset_ms=lambda: self._link.clock.offset_ms(),
        )
        self._objects.use_peers(self._plane.piece_client)

    def _build_link(self) -> None:
        config, plane, link = self._config, self._plane, self._config.coordinator
        self.report = StatusReport(
            config=config,
            identity=self._identity,
            tables=self._tables,
            credentials=self._credentials,
            replicas=self._replicas,
            objects=self._objects,
            live=plane.live,
            gateway=plane.client_port.handler.stats,
            peer_port=plane.peer_port,
            records=plane.records,
            drain_state=self._drain_state,
            gpu=self._gpu,
            clock_offset_ms=lambda: self._link.clock.offset_ms(),
            now_mono_ms=now_mono_ms,
            capacity=lambda: host_capacity(config.engine, self._gpu.own_readings),
            fill=plane.fill,
            usage=self._usage.spool.stats,
        )
        self._link = FleetLink(
            LinkCallbacks(
                make_channel=self._channel,
                make_hello=self.report.hello,
                make_status=self.report.status,
                answer=QueryHandler(
                    plane.state,
                    self._gpu,
                    plane.traces,
                    plane.prober,
                    now_mono_ms,
                    endpoint_for=self._replicas.endpoint_for,
                ).answer,
                now_mono_ms=now_mono_ms,
                now_unix_ms=now_unix_ms,
                draw=self._draw,
                on_removed=self._removal.told,
                on_admitted=self._removal.admitted,
            ),
            self._tables,
            self._credentials,
            status_interval_ms=link.status_interval_ms,
            reconnect=BackoffPolicy(base_ms=link.reconnect_min_ms, cap_ms=link.reconnect_max_ms),
        )
        self._renewal = Renewal(
            self._renewal_machine,
            self._channel,
            config.identity_dir,
            held=lambda: self._identity.stored,
            on_renewed=self._on_renewed,
            now_unix_ms=self._link.clock.now_unix_ms,
            now_mono_ms=now_mono_ms,
            draw=self._draw,
        )

    def _build_surfaces(self) -> None:
        config, plane = self._config, self._plane
        self.status = AgentStatus(now_mono_ms)
        self.status.register(
            build_info(),
            self._identity,
            self._tables,
            self._drain_state,
            self._credentials,
            self._link.status,
            self._link.clock,
            self._renewal,
            self._removal,
            self._replicas,
            self._objects,
            self._gpu,
            self._usage.spool.stats,
            *plane.parts(),
        )
        registry = make_registry(self.status.samples)
        self._metrics = MetricsServer(
            config.metrics.host, config.metrics.port, registry, self.status.missing
        )
        self._admin = AdminServer(
            config.admin_socket,
            status=self.status.status,
            requests=plane.records.latest_json,
            served=plane.peer_port.ledger.as_json,
            set_draining=self._set_operator_draining,
        )

    # -- life ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start every part, serve until a signal, then stop them in order."""
        try:
            await self._start()
            self._watch_signals()
            gc.collect()
            gc.freeze()  # what exists now is permanent: exclude it from collections
            notify_ready()
            _log.info(
                "agent serves node=%s client=%s peer_port=%d",
                self._identity.value.node_id,
                self._config.client_url,
                self._plane.peer_port.port,
            )
            await self._stop.wait()
            notify_stopping()
            _log.info("agent stops: new requests are refused, running ones may end")
        finally:
            await self._end()

    async def _start(self) -> None:
        await self._metrics.start()
        await self._admin.start()
        self._removal.load()
        image = self._files.load()
        if image is not None:
            self._credentials.restore(image.credentials_confirmed_unix_ms, now_unix_ms())
            await self._tables.restore(image.tables)
        self._usage.start()
        await self._plane.start()
        self._drain_state.serving = True
        spawn = self._background.spawn
        spawn(self._replicas.run(), name="replicas")
        spawn(self._persistence.run(), name="table-images")
        spawn(self._run_link(), name="link")
        spawn(self._quota.run(), name="quota")
        spawn(self._plane.prober.run(), name="prober")
        spawn(self._gpu.run(), name="accelerators")
        spawn(self._watch_certificate(), name="client-certificate")
        spawn(self._renewal.run(), name="renewal")
        spawn(self._usage.shipper.run(), name="usage")

    async def _run_link(self) -> None:
        # The first message says what the accelerators hold.
        await self._gpu.wait_first_reading(_FIRST_READING_TIMEOUT_S)
        await self._link.run()

    async def _end(self) -> None:
        self._drain_state.stopping = True
        self._link.report_soon()
        await self._plane.drain(self._config.limits.drain_timeout_ms)
        await self._usage.flush()
        await self._background.close()
        await self._usage.close()
        await self._objects.close()
        await self._persistence.flush()
        await self._plane.close()
        await self._admin.stop()
        await self._metrics.stop()

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._plane.client_port.reload_certificate)

    async def _watch_certificate(self) -> None:
        while True:
            await asyncio.sleep(_CERTIFICATE_CHECK_S)
            self._plane.client_port.reload_certificate_if_changed()

    # -- callbacks between parts -----------------------------------------------------------------

    def _channel(self) -> aio.Channel:
        address = self._config.coordinator.fleet_address or self._identity.value.fleet_address
        return node_channel(address, self._identity.stored)

    def _on_view_changed(self, view: FleetView, changed: frozenset[ResourceType]) -> None:
        if ResourceType.DESIRED in changed:
            self._objects.set_desired(view.desired, view.desired_adapters)
            self._replicas.set_desired(view.desired, view.desired_adapters)
        if changed & _ZONES_ARE_OF:
            self._objects.leave_zones()
        if ResourceType.TOPOLOGY in changed:
            self._drain_state.on_view_changed(view)
        self._plane.on_view_changed(view)
        self._persistence.changed()

    def _on_renewed(self, stored: StoredIdentity) -> None:
        self._identity.stored = stored
        self._plane.use_renewed_identity()

    def _on_membership(self, removed: str) -> None:
        self._drain_state.out_of_fleet = removed

    def _require_credentials(self) -> None:
        self._removal.require_member()
        self._credentials.require_usable()

    def _on_engine(self, _status: EngineStatus) -> None:
        self._replicas.changed()
        self._on_engines()

    def _on_engines(self) -> None:
        self._plane.on_engine_changed(self._replicas.engine_status)
        self._link.report_soon()

    def _on_accelerators(self) -> None:
        self._drain_state.by_health = self._gpu.drain_reason
        self._link.report_soon()

    def _set_operator_draining(self, draining: bool) -> None:
        self._drain_state.by_operator = draining
        if not draining:
            self._gpu.resume()
        self._link.report_soon()
