"""One agent's state of a small fleet, and requests to decide; every part is the product's.

The agent is ``gru-1`` at the edge of ``fleets.three_tiers``; it has measured every round trip.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.core.coverage import Coverage
from agent.core.engine_admission import EngineAdmission
from agent.core.engine_door import EngineDoor
from agent.core.exploration import Exploration
from agent.core.fill import FillMeter
from agent.core.half_open import HalfOpenTargets
from agent.core.hedging import HedgeBudget
from agent.core.live import LiveState
from agent.core.prefixes import NO_BLOCKS, PrefixMemory
from agent.core.prompt_tokens import PromptTokens
from agent.core.request.attempt import Attempt, TokenTimes
from agent.core.request.context import RequestContext
from agent.core.request.log import RequestLog
from agent.core.request.placing import Placer
from agent.core.request.state import RouterState
from protos.domain.predictor import Predictor
from protos.domain.trace import AttemptPurpose
from tests.support import fleets
from tests.support.own_engines import StandInEngines

if TYPE_CHECKING:
    from typing import Any

    from protos.domain.fleet_view import FleetView

SELF = "gru-1"
#: Round trips from the agent, in ms.
RTTS_MS = {"scl-1": 20.0, "iad-1": 60.0}


def router_state(
    view: FleetView | None = None, *, explore_ratio: float = 0.0, places: int = 4
) -> RouterState:
    """Return the agent's state at time 0: every round trip, no load, no outcome."""
    fleet = fleets.three_tiers() if view is None else view
    state = RouterState(
        node_id=SELF,
        view=lambda: fleet,
        own_engines=StandInEngines(),
        is_warm=lambda _node_id: True,
        draw=lambda: 0.0,
        live=LiveState(),
        engine_door=EngineDoor(EngineAdmission(places)),
        prefixes=PrefixMemory(),
        predictor=Predictor(),
        coverage=Coverage(),
        prompt_tokens=PromptTokens(),
        hedges=HedgeBudget(0.05),
        exploration=Exploration(explore_ratio),
        half_open=HalfOpenTargets(),
        own_fill=FillMeter(400.0),
        edge_fill_ratio=0.0,
    )
    for node_id, rtt_ms in RTTS_MS.items():
        state.live.probed(node_id, rtt_ms, 0.0)
    return state


def request_context(state: RouterState, **changes: Any) -> RequestContext:
    """Return a short stream with 1,000 ms for its first token, whose first byte came at 0."""
    made = RequestContext(
        view=state.view(),
        account="acme",
        key_digest=b"k",
        deployment=fleets.deployment(),
        stream=True,
        embeds=False,
        needs_tool_parser=False,
        prompt_tokens=10,
        body_bytes=500,
        budget_ms=1_000.0,
        last_mile_ms=0.0,
        first_byte_mono_ms=0.0,
        zones=None,
        blocks=NO_BLOCKS,
    )
    return replace(made, **changes)


def request_log() -> RequestLog:
    """Return the log of a request whose first byte came at 0."""
    return RequestLog("0" * 32, 1_700_000_000_000, "/v1/chat/completions", 0.0)


def attempt_at(
    state: RouterState,
    request: RequestContext,
    node_id: str,
    now_mono_ms: float = 0.0,
    **changes: Any,
) -> Attempt:
    """Return an attempt at ``node_id``, placed on the state of ``now_mono_ms``."""
    placement = Placer(state, request).place(now_mono_ms)
    chosen = next(each for each in placement.candidates if each.node.id == node_id)
    tiers = {"serving_tier": chosen.pop.tier, "billing_tier": chosen.pop.tier}
    placement = replace(placement, chosen=chosen, **tiers)
    made = Attempt(1, placement, AttemptPurpose.SERVE, now_mono_ms, 1_000.0, TokenTimes(None))
    for name, value in changes.items():
        setattr(made, name, value)
    return made
