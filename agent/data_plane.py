"""What serves requests, assembled: both ports, what they decide on, what they leave behind.

``main`` hands it what the rest of the agent knows; nothing in here knows the coordinator.
"""

from __future__ import annotations

import asyncio
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from agent.clock import now_mono_ms, now_unix_ms
from agent.core.clock_watch import ClockWatch
from agent.core.coverage import Coverage
from agent.core.engine_queue import EngineQueue
from agent.core.engine_status import EngineState
from agent.core.exploration import Exploration
from agent.core.fill import FillMeter
from agent.core.half_open import HalfOpenTargets
from agent.core.hedging import HedgeBudget
from agent.core.live import LiveState
from agent.core.prefixes import PrefixMemory
from agent.drain_state import OpenEngines
from agent.gateway.context import GatewayContext
from agent.gateway.records import RequestRecords
from agent.gateway.server import ClientPort
from agent.gateway.targets import EnginePools
from agent.peers.pool import PeerPool
from agent.peers.port import PeerPort, PeerService
from agent.peers.probe import Prober
from agent.peers.tls import PeerTls
from agent.trace_ids import TraceIds
from agent.traces.export import ExportStats, make_export
from agent.traces.keeper import TraceKeeper
from protos.domain.predictor import Predictor
from protos.domain.prompt_tokens import PromptTokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.config import AgentConfig
    from agent.core.engine_status import EngineStatus
    from agent.drain_state import DrainState
    from agent.link.identity import Identity
    from agent.replicas import Replicas
    from protos.domain.fleet_view import FleetView


class DataPlane:
    """The parts of one agent that a request meets, built in the order they need one another."""

    def __init__(
        self,
        config: AgentConfig,
        identity: Identity,
        *,
        view: Callable[[], FleetView],
        replicas: Replicas,
        standing: DrainState,
        credentials_usable: Callable[[], bool],
        draw: Callable[[], float],
    ) -> None:
        node_id = identity.node_id
        self.live = LiveState()
        self.prefixes = PrefixMemory()
        self.coverage = Coverage()
        self.hedges = HedgeBudget(config.router.hedge_ratio)
        self.exploration = Exploration(config.router.explore_ratio)
        self.trials = HalfOpenTargets()
        self.fill = FillMeter(config.engine.tokens_per_s)
        self.records = RequestRecords(config.limits.max_records)
        self._build_traces(config, identity)
        self._tls = PeerTls(config.identity_dir)
        self._peers = PeerPool(node_id, config.peer, self._tls, view, self.live, now_mono_ms)
        self.prober = Prober(config.peer, self._peers, self.live, now_mono_ms)
        self._pools = EnginePools(connect_timeout_ms=config.limits.connect_timeout_ms)
        engine_queue = EngineQueue(config.engine.max_parallel)
        self.around = GatewayContext(
            node_id=node_id,
            pop_id=identity.pop_id,
            limits=config.limits,
            view=view,
            engines=OpenEngines(replicas, standing),
            peers=self._peers,
            live=self.live,
            records=self.records,
            traces=self.traces.take,
            clocks=ClockWatch(),
            engine_queue=engine_queue,
            credentials_usable=credentials_usable,
            now_mono_ms=now_mono_ms,
            now_unix_ms=now_unix_ms,
            draw=draw,
            trace_id=TraceIds().make,
            prefixes=self.prefixes,
            predictor=Predictor(),
            coverage=self.coverage,
            prompt_tokens=PromptTokens(),
            hedges=self.hedges,
            exploration=self.exploration,
            trials=self.trials,
            own_fill=self.fill,
            edge_fill_ratio=config.router.edge_fill_ratio,
        )
        self.client_port = ClientPort(config.client, self.around, self._pools)
        service = PeerService(
            node_id=node_id,
            view=view,
            endpoint_for=replicas.endpoint_for,
            engine_pool=self._pools.pool_for,
            ready_models=replicas.ready_models,
            incarnation=partial(_incarnation, now_unix_ms(), replicas),
            fill=self.fill,
            engine_queue=engine_queue,
            local_in_flight=lambda: self.live.in_flight(node_id),
            draining=lambda: standing.draining,
            now_mono_ms=now_mono_ms,
        )
        self.peer_port = PeerPort(config, self._tls, service)
        standing.on_change(self.client_port.set_draining)

    def _build_traces(self, config: AgentConfig, identity: Identity) -> None:
        self._export = make_export(
            config.telemetry,
            node_id=identity.node_id,
            pop_id=identity.pop_id,
            version=version("edgeforge"),
        )
        self.export_stats = self._export.stats if self._export is not None else ExportStats()
        self.traces = TraceKeeper(
            config.state_dir / "traces.db",
            max_rows=config.traces.max_rows,
            max_bytes=config.traces.max_bytes,
            export=self._export.offer if self._export is not None else None,
        )

    async def start(self) -> None:
        """Open both ports. Raises: ConfigInvalid for one in use."""
        self.traces.start()
        await self.peer_port.start()
        await self.client_port.start()

    async def drain(self, grace_ms: float) -> None:
        """Take nothing new, let what runs end for ``grace_ms``, and close the ports."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.client_port.drain(grace_ms))
            group.create_task(self.peer_port.drain(grace_ms))
        await self.client_port.stop()
        await self.peer_port.stop()

    async def close(self) -> None:
        """Write what is left of requests, and let the connections go."""
        await self.traces.close()
        if self._export is not None:
            await asyncio.to_thread(self._export.close)
        await self._peers.close()
        self._pools.close()

    def engine_changed(self, status: EngineStatus) -> None:
        """The local engine changed its state."""
        ready = status.state is EngineState.READY
        self.live.engine_changed(self.around.node_id, str(status.generation), ready=ready)

    def look_at(self, view: FleetView) -> None:
        """Nodes may have left the table: what was known of them goes."""
        self.live.forget_all_but(view.nodes)
        self.prefixes.forget_all_but(view.nodes)

    def use_renewed_identity(self) -> None:
        """This node has another certificate: connections made with the old one end."""
        self._tls.reload()
        self._peers.reset()


def _incarnation(began_unix_ms: float, replicas: Replicas) -> str:
    """Return which run of this host's engine serves, unlike those of an earlier agent."""
    return f"{began_unix_ms:.0f}-{replicas.engine_status.generation}"
