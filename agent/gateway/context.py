"""What the gateway is handed by ``agent.main``: everything it reads, and the clocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.config import LimitsConfig
    from agent.core.clock_watch import ClockWatch
    from agent.core.coverage import Coverage
    from agent.core.engine_queue import EngineQueue
    from agent.core.exploration import Exploration
    from agent.core.fill import FillMeter
    from agent.core.half_open import HalfOpenTargets
    from agent.core.hedging import HedgeBudget
    from agent.core.live import LiveState
    from agent.core.prefixes import PrefixMemory
    from agent.gateway.records import RequestRecords
    from agent.gateway.targets import LocalEngines, PeerTargets
    from agent.gateway.trail import TraceSink
    from protos.domain.fleet_view import FleetView
    from protos.domain.predictor import Predictor
    from protos.domain.prompt_tokens import PromptTokens
from agent.core.prefixes import NO_BLOCKS, PromptBlocks
from protos.domain.router import TargetLookup, TargetState


@dataclass(frozen=True, slots=True)
class GatewayContext:
    """Everything a request is decided on, beyond the request itself."""

    node_id: str
    pop_id: str
    limits: LimitsConfig
    view: Callable[[], FleetView]
    engines: LocalEngines
    peers: PeerTargets
    live: LiveState
    records: RequestRecords
    #: Where traces of finished requests go.
    traces: TraceSink
    clocks: ClockWatch
    engine_queue: EngineQueue
    credentials_usable: Callable[[], bool]
    now_mono_ms: Callable[[], float]
    now_unix_ms: Callable[[], int]
    draw: Callable[[], float]
    trace_id: Callable[[], str]
    #: What each engine has lately seen of prompts.
    prefixes: PrefixMemory
    #: What the first tokens of each (node, model) have taken.
    predictor: Predictor
    #: How often they came within what was predicted.
    coverage: Coverage
    #: How many tokens each deployment's bodies have.
    prompt_tokens: PromptTokens
    #: How many requests may be sent twice.
    hedges: HedgeBudget
    #: How many requests may find out what a target is like that placement leaves alone.
    exploration: Exploration
    #: Which targets a strict deployment's requests may try though they are predicted late.
    trials: HalfOpenTargets
    #: How full this node's own engine is.
    own_fill: FillMeter
    #: Edge nodes under it are preferred among those that fit; 0: price alone.
    edge_fill_ratio: float


_NONE_READY: frozenset[str] = frozenset()


def target_lookup(
    around: GatewayContext,
    model: str,
    now_mono_ms: float,
    prompt: PromptBlocks = NO_BLOCKS,
    *,
    spare_late: bool = False,
) -> TargetLookup:
    """Return what this agent knows of any node that might serve ``model``, itself included.

    ``spare_late``: those that are left alone for being late only are not.
    """
    replicas = around.view().replicas.get(model, {})
    cached = around.prefixes.cached_ratios(model, replicas, prompt, now_mono_ms)
    known = around.live.targets(
        replicas, now_mono_ms, around.peers.is_warm, cached, spare_late=spare_late
    )
    if (node_id := around.node_id) in known:
        cached_ratio = cached.get(node_id, 0.0)
        known[node_id] = _own_state(around, model, now_mono_ms, cached_ratio, spare_late=spare_late)
    return known.__getitem__


def _own_state(
    around: GatewayContext, model: str, now_mono_ms: float, cached_ratio: float, *, spare_late: bool
) -> TargetState:
    node_id, queue = around.node_id, around.engine_queue
    ready = around.engines.endpoint_for(model) is not None
    return TargetState(
        0.0,
        0.0,
        queue.serving,
        queue.waiting,
        True,
        around.live.is_ejected(node_id, now_mono_ms, spare_late=spare_late),
        frozenset((model,)) if ready else _NONE_READY,
        cached_ratio,
        *around.live.backlog(node_id, now_mono_ms),
    )


def fill_lookup(around: GatewayContext, now_mono_ms: float) -> Callable[[str], float]:
    """Return how full any node is: this one by its own count, others by their own word."""
    own_node_id, told = around.node_id, around.live.fill_ratio

    def look_up(node_id: str) -> float:
        if node_id == own_node_id:
            return around.own_fill.fill_ratio(now_mono_ms)
        return told(node_id, now_mono_ms)

    return look_up
