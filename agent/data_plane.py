"""Assembles what serves requests: both ports, the state they decide on, records and traces.

``main`` passes in what other parts provide; nothing here depends on the coordinator.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from agent.cache_secret import load_cache_secret
from agent.clock import now_mono_ms, now_unix_ms
from agent.core.account_limits import AccountLimits
from agent.core.body_budget import BodyBudget
from agent.core.cache_salt import cache_salt
from agent.core.clock_watch import ClockWatch
from agent.core.coverage import Coverage
from agent.core.engine_admission import EngineAdmission
from agent.core.engine_door import EngineDoor
from agent.core.engine_status import EngineState
from agent.core.exploration import Exploration
from agent.core.fill import FillMeter
from agent.core.half_open import HalfOpenTargets
from agent.core.hedging import HedgeBudget
from agent.core.live import LiveState
from agent.core.prefixes import PrefixMemory
from agent.core.prompt_tokens import PromptTokens
from agent.core.request.state import RouterState
from agent.core.request.timing import RequestPolicy
from agent.core.revocation import may_revoke
from agent.core.served_comparison import ServedComparison
from agent.drain_state import OpenEngines
from agent.formats.body_rules import BodyCaps
from agent.gateway.context import GatewayContext, no_wait
from agent.gateway.records import RequestRecords
from agent.gateway.running import RunningRequests
from agent.gateway.server import ClientPort
from agent.gateway.targets import EnginePools, Targets
from agent.loads import Loads
from agent.peers.piece_client import PieceClient
from agent.peers.pieces import PieceServer
from agent.peers.pool import PeerPool
from agent.peers.port import PeerPort
from agent.peers.probe import Prober
from agent.peers.service import PeerService
from agent.peers.tls import PeerTls
from agent.trace_ids import TraceIds
from agent.traces.export import make_export
from agent.traces.keeper import TraceKeeper
from agent.traces.stats import ExportStats
from protos.build_info import product_version
from protos.domain.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from agent.config import AgentConfig
    from agent.core.cold_start import ColdStart, Wanted
    from agent.core.descriptors import Descriptors
    from agent.core.engine_status import EngineStatus
    from agent.core.samples import MetricSource, StatusSource
    from agent.drain_state import DrainState
    from agent.gateway.metering import UsageMeter
    from agent.link.identity import Identity
    from agent.peers.pieces import Shelf
    from agent.peers.tls import UseIdentity
    from agent.replicas import Replicas
    from protos.domain.fleet_view import FleetView


#: As ``BodyCaps.max_prompt_logprobs``.
NO_PROMPT_LOGPROBS = -1


class DataPlane:
    """The parts of one agent that serve requests, built in the order of their dependencies."""

    def __init__(
        self,
        config: AgentConfig,
        identity: Identity,
        use_identity: UseIdentity,
        *,
        view: Callable[[], FleetView],
        replicas: Replicas,
        drain_state: DrainState,
        require_credentials: Callable[[], None],
        ready: Callable[[], bool],
        draw: Callable[[], float],
        descriptors: Descriptors,
        shelf: Shelf,
        meter: UsageMeter,
        clock_offset_ms: Callable[[], float],
        wait_for_quota: Callable[[], Awaitable[None]] = no_wait,
    ) -> None:
        self._meter, self._clock_offset_ms = meter, clock_offset_ms
        self._node_id = identity.node_id
        self._view = view
        self._seen_view = view()
        self._salt = partial(cache_salt, load_cache_secret(config.state_dir))
        self._caps = _body_caps(config)
        self._build_measures(config)
        self._build_traces(config, identity)
        self._tls = PeerTls(use_identity)
        self._peers = PeerPool(self._node_id, config.peer, self._tls, view, self.live, now_mono_ms)
        self.prober = Prober(config.peer, self._peers, self.live, now_mono_ms)
        self._pools = EnginePools(connect_timeout_ms=config.limits.connect_timeout_ms)
        self.loads = Loads(replicas, self._on_loaded)
        self.bodies = BodyBudget(config.limits.max_body_bytes_in_flight)
        own_engines = OpenEngines(replicas, drain_state)
        self.state = self._make_state(config, own_engines, draw)
        self.gateway = self._make_gateway(
            config, identity, own_engines, require_credentials, wait_for_quota
        )
        self.client_port = ClientPort(
            config.client,
            self.gateway,
            ready,
            product_version(),
            bodies=self.bodies,
            max_connections=descriptors.client,
        )
        self.peer_port = PeerPort(
            config,
            self._tls,
            self._make_peer_service(replicas, drain_state),
            bodies=self.bodies,
            max_connections=descriptors.peer,
            pieces=PieceServer(shelf, view, config.limits.serve_bytes_per_s, now_mono_ms),
        )
        self.piece_client = PieceClient(
            self._node_id, self._peers, self._tls, view, config.peer.source_address
        )
        drain_state.on_change(self.client_port.set_draining)

    def _build_measures(self, config: AgentConfig) -> None:
        """Make what is measured and remembered of requests, targets and the own engine."""
        self.live = LiveState()
        self.prefixes = PrefixMemory()
        self.coverage = Coverage()
        self.hedges = HedgeBudget(config.router.hedge_ratio)
        self.account_limits = AccountLimits()
        self.account_limits.nodes = max(1, len(self._view().nodes))
        self.exploration = Exploration(config.router.explore_ratio)
        self.half_open = HalfOpenTargets()
        self.fill = FillMeter(config.engine.tokens_per_s)
        self.records = RequestRecords(config.limits.max_records)
        self.served_comparison = ServedComparison()
        self.engine_door = EngineDoor(
            EngineAdmission(
                config.engine.max_parallel,
                max_waiting=config.limits.max_engine_waiting,
                max_waiting_bytes=config.limits.max_engine_waiting_bytes,
            )
        )

    def _make_state(
        self, config: AgentConfig, own_engines: OpenEngines, draw: Callable[[], float]
    ) -> RouterState:
        return RouterState(
            node_id=self._node_id,
            view=self._view,
            own_engines=own_engines,
            is_warm=self._peers.is_warm,
            draw=draw,
            live=self.live,
            engine_door=self.engine_door,
            prefixes=self.prefixes,
            predictor=Predictor(),
            coverage=self.coverage,
            prompt_tokens=PromptTokens(),
            hedges=self.hedges,
            exploration=self.exploration,
            half_open=self.half_open,
            own_fill=self.fill,
            edge_fill_ratio=config.router.edge_fill_ratio,
        )

    def _make_gateway(
        self,
        config: AgentConfig,
        identity: Identity,
        own_engines: OpenEngines,
        require_credentials: Callable[[], None],
        wait_for_quota: Callable[[], Awaitable[None]],
    ) -> GatewayContext:
        limits = config.limits
        return GatewayContext(
            pop_id=identity.pop_id,
            limits=limits,
            caps=self._caps,
            policy=RequestPolicy(
                limits.max_attempts,
                limits.stream_heartbeat_ms,
                limits.stream_idle_timeout_ms,
                limits.max_wait_ms,
            ),
            state=self.state,
            targets=Targets(self._node_id, own_engines, self._pools, self._peers),
            loads=self.loads,
            records=self.records,
            traces=self.traces.take,
            meter=self._meter,
            served=self.served_comparison,
            running=RunningRequests(),
            clocks=ClockWatch(),
            require_credentials=require_credentials,
            clock_offset_ms=self._clock_offset_ms,
            cache_salt=self._salt,
            now_mono_ms=now_mono_ms,
            now_unix_ms=now_unix_ms,
            make_trace_id=TraceIds().make,
            account_limits=self.account_limits,
            wait_for_quota=wait_for_quota,
        )

    def _make_peer_service(self, replicas: Replicas, drain_state: DrainState) -> PeerService:
        return PeerService(
            node_id=self._node_id,
            view=self._view,
            caps=self._caps,
            cache_salt=self._salt,
            residents=replicas,
            loads=self.loads,
            engine_pool=self._pools.pool_for,
            incarnation=partial(_incarnation, now_unix_ms(), replicas),
            fill=self.fill,
            engine_door=self.engine_door,
            prompt_tokens=self.state.prompt_tokens,
            draining=lambda: drain_state.draining,
            now_mono_ms=now_mono_ms,
            now_unix_ms=now_unix_ms,
        )

    def _build_traces(self, config: AgentConfig, identity: Identity) -> None:
        self._export = make_export(
            config.telemetry,
            node_id=identity.node_id,
            pop_id=identity.pop_id,
            version=product_version(),
        )
        self.export_stats = self._export.stats if self._export is not None else ExportStats()
        self.traces = TraceKeeper(
            config.state_dir / "traces.db",
            max_rows=config.traces.max_rows,
            max_bytes=config.traces.max_bytes,
            export=self._export.offer if self._export is not None else None,
        )

    def parts(self) -> Iterable[MetricSource | StatusSource]:
        """Return every part here that offers metrics or status."""
        return (
            self.client_port.handler.stats,
            self.account_limits,
            self.client_port,
            self.peer_port,
            self.bodies,
            self.peer_port.ledger,
            self.served_comparison,
            self.engine_door,
            self.loads,
            self.prober,
            self.live,
            self.hedges,
            self.exploration,
            self.half_open,
            self.fill,
            self.coverage,
            self.prefixes,
            self.records,
            self.traces.stats,
            self.export_stats,
        )

    async def start(self) -> None:
        """Open both ports. Raises: ConfigInvalid for one in use."""
        self.traces.start()
        await self.peer_port.start()
        await self.client_port.start()

    async def drain(self, grace_ms: float) -> None:
        """Refuse new requests, let running ones end for up to ``grace_ms``, and close the ports."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.client_port.drain(grace_ms))
            group.create_task(self.peer_port.drain(grace_ms))
        await self.client_port.stop()
        await self.peer_port.stop()

    async def close(self) -> None:
        """Cut loads, write pending traces and close all connections."""
        await self.loads.close()
        await self.traces.close()
        if self._export is not None:
            await asyncio.to_thread(self._export.close)
        self.piece_client.close()
        await self._peers.close()
        self._pools.close()

    def _on_loaded(self, _wanted: Wanted, cold: ColdStart) -> None:
        """Learn from a cold start of this node's own."""
        self.state.loads.learn(
            self.state.node_id, cold.way, cold.weights_bytes, cold.took_ms, cold.pull_ms
        )

    def on_engine_changed(self, status: EngineStatus) -> None:
        """The local engine changed its state."""
        ready = status.state is EngineState.READY
        self.live.engine_changed(self.state.node_id, str(status.generation), ready=ready)

    def on_view_changed(self, view: FleetView) -> None:
        """Visit what is in progress, and drop the state of nodes that have left the table."""
        seen, self._seen_view = self._seen_view, view
        self.account_limits.nodes = max(1, len(view.nodes))
        if not may_revoke(seen, view):
            return
        self.gateway.running.table_changed()
        self.peer_port.table_changed()
        if seen.nodes is not view.nodes:
            self.live.forget_all_but(view.nodes)
            self.prefixes.forget_all_but(view.nodes)
            self.state.loads.forget_all_but(frozenset(view.nodes))

    def use_renewed_identity(self) -> None:
        """Load the renewed certificate and drop connections made with the old one."""
        self._tls.reload()
        self._peers.reset()
        self.piece_client.reset()


def _body_caps(config: AgentConfig) -> BodyCaps:
    limits = config.limits
    return BodyCaps(
        limits.max_n,
        # vLLM 0.32 with adapters ends itself over logprobs of the prompts of two requests.
        NO_PROMPT_LOGPROBS if config.engine.takes_adapters else limits.max_prompt_logprobs,
        limits.max_inputs,
        limits.max_sequences,
    )


def _incarnation(began_unix_ms: float, replicas: Replicas) -> str:
    """Return which run of this host's engine serves, unlike those of an earlier agent."""
    return f"{began_unix_ms:.0f}-{replicas.engine_status.generation}"
