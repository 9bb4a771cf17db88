"""The state on which an agent decides every request; shared by all requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.core.prefixes import NO_BLOCKS, PromptBlocks
from protos.domain.load_term import ColdWay, LoadTerms
from protos.domain.resources import SlaTier
from protos.domain.router import TargetLookup, TargetState

if TYPE_CHECKING:
    from agent.core.coverage import Coverage
    from agent.core.engine_door import EngineDoor
    from agent.core.exploration import Exploration
    from agent.core.fill import FillMeter
    from agent.core.half_open import HalfOpenTargets
    from agent.core.hedging import HedgeBudget
    from agent.core.live import LiveState
    from agent.core.own_engines import OwnEngines
    from agent.core.prefixes import PrefixMemory
    from agent.core.prompt_tokens import PromptTokens
    from protos.domain.fleet_view import FleetView
    from protos.domain.predictor import Predictor


@dataclass(slots=True)
class RouterState:
    """One agent's knowledge of its fleet. The fields are fixed; the objects in them change."""

    node_id: str
    #: The routing table as it is now.
    view: Callable[[], FleetView]
    #: What this node's own engines hold, and what they would load.
    own_engines: OwnEngines
    #: Whether an open connection to a node is ready.
    is_warm: Callable[[str], bool]
    #: Returns a number in [0, 1), uniformly distributed.
    draw: Callable[[], float]
    live: LiveState
    #: The way into this node's own engine.
    engine_door: EngineDoor
    #: Which prompts each engine may hold in its cache.
    prefixes: PrefixMemory
    #: Learned first-token times of each (node, model).
    predictor: Predictor
    #: How often first tokens came within their predicted P99.
    coverage: Coverage
    #: Learned ratio of tokens to body bytes of each deployment.
    prompt_tokens: PromptTokens
    #: How many requests may be sent twice.
    hedges: HedgeBudget
    #: How many requests may go to a target whose speed is uncertain.
    exploration: Exploration
    #: Which targets a strict deployment may try although they are predicted late.
    half_open: HalfOpenTargets
    #: How full this node's own engine is.
    own_fill: FillMeter
    #: Edge nodes under this fill are preferred among those that fit; 0: by price alone.
    edge_fill_ratio: float
    #: How long loads take, by node and way.
    loads: LoadTerms = field(default_factory=LoadTerms)

    def targets(
        self,
        model: str,
        now_mono_ms: float,
        prompt: PromptBlocks = NO_BLOCKS,
        *,
        adapter: str = "",
        allow_late: bool = False,
        account: str = "",
        sla_tier: SlaTier = SlaTier.STANDARD,
    ) -> TargetLookup:
        """Return a look-up of the state of each node that may serve ``model``. Hot.

        The load is what a request of ``account`` meets: others' waiting requests are ahead of it
        only as far as fair queueing puts them there.
        ``allow_late``: nodes that are ejected only for late first tokens count as not ejected.
        """
        replicas = self.view().replicas.get(model, {})
        cached = self.prefixes.cached_ratios(model, replicas, prompt, now_mono_ms)
        known = self.live.targets(
            replicas, now_mono_ms, self.is_warm, cached, allow_late=allow_late, account=account
        )
        if (node_id := self.node_id) in known:
            load = self.engine_door.load_for(account, sla_tier)
            known[node_id] = self._own(
                model, adapter, now_mono_ms, cached.get(node_id, 0.0), load, allow_late=allow_late
            )
        return known.__getitem__

    def fill(self, now_mono_ms: float) -> Callable[[str], float]:
        """Return a look-up of how full a node is: this one as measured, others as reported."""
        own_node_id, reported = self.node_id, self.live.fill_ratio

        def look_up(node_id: str) -> float:
            if node_id == own_node_id:
                return self.own_fill.fill_ratio(now_mono_ms)
            return reported(node_id, now_mono_ms)

        return look_up

    def _own(
        self,
        model: str,
        adapter: str,
        now_mono_ms: float,
        cached_ratio: float,
        load: tuple[int, int],
        *,
        allow_late: bool,
    ) -> TargetState:
        node_id = self.node_id
        in_flight, ahead = load
        name, loadable = adapter or model, _NONE_LOADABLE
        own = self.own_engines
        ready = frozenset((name,)) if own.is_resident(model, adapter) else _NONE_READY
        if not ready:
            if (way := own.cold_way(model, adapter)) is not None:
                loadable = {name: way}
            if adapter and own.is_resident(model):
                ready = frozenset((model,))
        return TargetState(
            0.0,
            0.0,
            in_flight,
            ahead,
            True,
            self.live.is_ejected(node_id, now_mono_ms, allow_late=allow_late),
            ready,
            cached_ratio,
            *self.live.backlog(node_id, now_mono_ms),
            loadable=loadable,
        )


_NONE_READY: frozenset[str] = frozenset()
_NONE_LOADABLE: dict[str, ColdWay] = {}
