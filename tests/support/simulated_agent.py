"""An agent in simulated time: the product's decisions, in the order that the gateway takes them.

What is asked here of ``router``, ``LiveState``, ``Predictor``, ``Exploration``, ``HedgeBudget`` and
``next_patience`` is what ``agent/gateway`` asks of them; only clock, network and engines are
simulated. Connections are taken to be warm, prompts to share no prefix, and nothing to break.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from agent.core.attempts import Expectation, next_patience
from agent.core.engine_queue import EngineQueue, Place
from agent.core.exploration import Exploration, explored_patience_ms
from agent.core.fill import FillMeter
from agent.core.half_open import HalfOpenTargets
from agent.core.hedging import HEDGE_RATIO, HedgeBudget, hedge_after_ms, hedge_to
from agent.core.live import LiveState
from protos.domain.choice import explored_placement, missed_placement
from protos.domain.errors import BudgetUnreachable, NoReplica
from protos.domain.fleet_view import FleetView
from protos.domain.predictor import Outcome, Predictor
from protos.domain.pricing import Usage, cost_of
from protos.domain.prompt_tokens import PromptTokens
from protos.domain.resources import EngineProfile, Tier
from protos.domain.router import Placement, RequestShape, TargetState, place
from tests.support.one_target import seen_target
from tests.support.simulated_engine import Asked, SimulatedEngine
from tests.support.wan_world import MODEL, SIZE_CLASS, Arrival, deployment_name

#: As ``agent.config`` has them.
MAX_ATTEMPTS = 3
STREAM_IDLE_MS, RESPONSE_MS = 120_000.0, 600_000.0
READY = (MODEL,)


class Network(Protocol):
    """Time, and the ways between agents."""

    now_ms: float

    def later(self, at_ms: float, what: Callable[[], None]) -> None:
        """Let ``what`` happen at ``at_ms``."""

    def one_way_ms(self, source: str, destination: str, body_bytes: int = 0) -> float:
        """Return how long something takes to get there this time."""


@dataclass(frozen=True, slots=True)
class ToldLoad:
    """What a node says of itself in a probe's answer and on a response."""

    in_flight: int
    queued: int
    fill_ratio: float


@dataclass(slots=True, eq=False)
class Copy:
    """One attempt at one target."""

    request: Request
    placement: Placement
    node_id: str
    began_ms: float
    engine_asked: Asked
    prompt: int = 0
    #: When it reaches its target: an abort cannot overtake it.
    there_ms: float = 0.0
    back_ms: float = 0.0
    place: Place | None = None
    told: ToldLoad | None = None
    first_ms: float | None = None
    cut: bool = False


@dataclass(slots=True, eq=False)
class Request:
    """A client's request, and what came of it."""

    arrival: Arrival
    tried: frozenset[str] = frozenset()
    late: frozenset[str] = frozenset()
    attempts: int = 0
    copies: list[Copy] = field(default_factory=list)
    refused: str = ""
    predicted_miss: bool = False
    #: Client side: the last mile is in it.
    ttft_ms: float | None = None
    ended: bool = False
    serving_tier: Tier | None = None
    billing_tier: Tier | None = None
    hedged: bool = False
    replaced: int = 0
    #: Of the first attempt, as long as its agent waited: what was promised, and what it took.
    promised_ms: float | None = None
    took_ms: float | None = None
    #: It explores: what the one not asked would take.
    fall_back_ms: float | None = None
    #: Of a strict deployment, and let through.
    on_trial: bool = False


class SimulatedNode:
    """One host: an engine, and what its agent counts of it."""

    def __init__(self, node_id: str, engine: SimulatedEngine, profile: EngineProfile) -> None:
        self.node_id = node_id
        self.engine = engine
        self.queue = EngineQueue(profile.max_parallel)
        self.fill = FillMeter(profile.tokens_per_s)
        self.here = 0

    def load(self, now_ms: float) -> ToldLoad:
        """Return what the peer port would tell."""
        queued = self.queue.waiting
        return ToldLoad(max(0, self.here - queued), queued, self.fill.fill_ratio(now_ms))


class SimulatedAgent:
    """Places the requests of its clients; ``edge_fill_ratio`` as in the configuration."""

    def __init__(
        self,
        node: SimulatedNode,
        view: FleetView,
        network: Network,
        send: Callable[[Copy], None],
        abort: Callable[[Copy], None],
        chance: random.Random,
        *,
        edge_fill_ratio: float,
        explore_ratio: float,
    ) -> None:
        self.node = node
        self.node_id = node.node_id
        self.live = LiveState()
        self.predictor = Predictor()
        self.prompt_tokens = PromptTokens()
        self.hedges = HedgeBudget(HEDGE_RATIO)
        self.exploration = Exploration(explore_ratio)
        self.trials = HalfOpenTargets()
        self._view = view
        self._network = network
        self._send = send
        self._abort = abort
        self._chance = chance
        self._edge_fill_ratio = edge_fill_ratio

    def arrive(self, request: Request) -> None:
        """A client's request was read."""
        self.hedges.earn()
        self.exploration.budget.earn()
        self._attempt(request)

    # -- placing, as agent/gateway/attempts.py and surroundings.py

    def _attempt(self, request: Request) -> None:
        try:
            placement = self._first_placement(request)
        except (BudgetUnreachable, NoReplica) as error:
            request.refused = type(error).__name__
            return
        request.attempts += 1
        request.tried |= {placement.chosen.node.id}
        if request.promised_ms is None:
            request.promised_ms = placement.chosen.ttft_ms_p99
        request.predicted_miss = placement.predicted_miss
        last = request.attempts == MAX_ATTEMPTS or not any(
            candidate.node.id not in request.tried for candidate in placement.candidates
        )
        self._ask(request, placement, last=last)

    def _first_placement(self, request: Request) -> Placement:
        """Place; of a first attempt a few go where there is something to be learned."""
        if request.attempts:
            return self._place(request)
        now = self._network.now_ms
        try:
            placement = self._place(request)
        except BudgetUnreachable:
            placement = self._choose(request, spare_late=False, strict=False)
            trial = self.trials.of(placement.candidates, self._budget_left_ms(request), now)
            if trial is None:
                raise
            request.on_trial = True
            return missed_placement(self._view, self._shape(request), placement.candidates, trial)
        learned = self.predictor.of_model(MODEL)
        other = self.exploration.instead_of(placement, self._shape(request), learned, now)
        if other is None:
            return placement
        request.fall_back_ms = placement.chosen.ttft_ms_p99
        return explored_placement(placement, other)

    def _place(self, request: Request, *, fall_back: bool = True) -> Placement:
        try:
            return self._choose(request, spare_late=False)
        except NoReplica:
            if not fall_back:
                raise
        request.tried -= request.late
        request.late = frozenset()
        return self._choose(request, spare_late=True)

    def _choose(
        self, request: Request, *, spare_late: bool, strict: bool | None = None
    ) -> Placement:
        now, shape = self._network.now_ms, self._shape(request)
        if strict is not None:
            shape = replace(shape, deployment=replace(shape.deployment, strict=strict))
        return place(
            self._view,
            shape,
            self.node_id,
            lambda node_id: self._state(node_id, now, spare_late=spare_late),
            draw=self._chance.random(),
            fill=lambda node_id: self._fill(node_id, now),
            edge_fill_ratio=self._edge_fill_ratio,
            excluded=request.tried,
            learned=self.predictor.of_model(MODEL),
        )

    def _shape(self, request: Request) -> RequestShape:
        arrival = request.arrival
        name = deployment_name(arrival.budget_ms)
        return RequestShape(
            deployment=self._view.deployments[name],
            prompt_tokens=arrival.body_bytes // 8,
            body_bytes=arrival.body_bytes,
            stream=True,
            budget_left_ms=self._budget_left_ms(request),
            narrowed_zones=None,
            expected_tokens=self.prompt_tokens.estimate(name, arrival.body_bytes),
        )

    def _budget_left_ms(self, request: Request) -> float:
        arrival = request.arrival
        return arrival.budget_ms - arrival.last_mile_ms - (self._network.now_ms - arrival.at_ms)

    def _state(self, node_id: str, now: float, *, spare_late: bool) -> TargetState:
        live = self.live
        if node_id != self.node_id:
            return seen_target(live, node_id, now, warm=True, spare_late=spare_late)
        queue = self.node.queue
        ejected = live.is_ejected(node_id, now, spare_late=spare_late)
        backlog = live.backlog(node_id, now)
        models = frozenset(READY)
        return TargetState(
            0.0, 0.0, queue.serving, queue.waiting, True, ejected, models, 0.0, *backlog
        )

    def _fill(self, node_id: str, now: float) -> float:
        if node_id == self.node_id:
            return self.node.fill.fill_ratio(now)
        return self.live.fill_ratio(node_id, now)

    # -- asking, as agent/gateway/attempts.py and asking.py

    def _ask(self, request: Request, placement: Placement, *, last: bool) -> None:
        network, prediction = self._network, placement.chosen.prediction
        copy = self._begin(request, placement)
        others_ms = [
            candidate.ttft_ms_p99
            for candidate in placement.candidates
            if candidate.node.id not in request.tried
        ]
        expectation = Expectation(
            ttft_ms_p50=prediction.ttft_ms_p50,
            ttft_ms_p99=prediction.ttft_ms_p99,
            learned=prediction.learned,
            budget_left_ms=self._budget_left_ms(request),
            other_ttft_ms_p99=None if last or not others_ms else min(others_ms),
        )
        patience_ms, _ = next_patience(expectation, idle_ms=STREAM_IDLE_MS, response_ms=RESPONSE_MS)
        if request.fall_back_ms is not None and request.attempts == 1:
            patience_ms = explored_patience_ms(self._budget_left_ms(request), request.fall_back_ms)
        if last:
            return
        network.later(network.now_ms + patience_ms, lambda: self._out_of_patience(copy))
        after_ms = hedge_after_ms(prediction)
        if after_ms < patience_ms:
            network.later(network.now_ms + after_ms, lambda: self._second_copy(copy))

    def _begin(self, request: Request, placement: Placement) -> Copy:
        chosen, now = placement.chosen, self._network.now_ms
        arrival = request.arrival
        asked = Asked(arrival.prompt_tokens, arrival.completion_tokens)
        copy = Copy(request, placement, chosen.node.id, now, asked)
        asked.note = copy
        tokens = chosen.load.prompt_tokens
        copy.prompt = self.live.request_started(copy.node_id, now, tokens)
        request.copies.append(copy)
        self._send(copy)
        return copy

    def _second_copy(self, first: Copy) -> None:
        request = first.request
        if first.first_ms is not None or first.cut:
            return
        try:
            placement = self._place(request, fall_back=False)
        except (BudgetUnreachable, NoReplica):
            return
        chosen = hedge_to(placement.candidates, request.tried)
        if chosen is None or not self.hedges.take():
            return
        request.hedged = True
        request.tried |= {chosen.node.id}
        billing_tier = first.placement.billing_tier
        self._begin(
            request,
            replace(
                placement, chosen=chosen, serving_tier=chosen.pop.tier, billing_tier=billing_tier
            ),
        )

    def _out_of_patience(self, copy: Copy) -> None:
        if copy.first_ms is not None or copy.cut:
            return
        request = copy.request
        self._lose(copy)
        self.live.late(copy.node_id, self._network.now_ms)
        request.late |= {copy.node_id}
        if all(each.cut for each in request.copies):
            request.replaced += 1
            self._attempt(request)

    def _lose(self, copy: Copy) -> None:
        """Cut a copy whose first token has not come."""
        now = self._network.now_ms
        copy.cut = True
        self.live.request_ended(copy.node_id, copy.prompt)
        self._learn(copy, censored=True)
        if copy is copy.request.copies[0]:
            copy.request.took_ms = now - copy.began_ms
            if copy.request.on_trial:
                self.trials.ended(copy.placement.chosen, now, in_time=False)
        self._abort(copy)

    def first_token(self, copy: Copy) -> None:
        """A first token came here."""
        if copy.cut:
            return
        network, request = self._network, copy.request
        copy.first_ms = network.now_ms
        self.live.first_token(copy.node_id, copy.prompt, network.now_ms)
        self._learn(copy)
        if copy is request.copies[0]:
            request.took_ms = network.now_ms - copy.began_ms
            if request.on_trial:
                in_time = self._budget_left_ms(request) >= 0.0
                self.trials.ended(copy.placement.chosen, network.now_ms, in_time=in_time)
        if copy.node_id != self.node_id and copy.told is not None:
            self.told(copy.node_id, copy.told)
        arrival = request.arrival
        request.ttft_ms = network.now_ms - arrival.at_ms + arrival.last_mile_ms
        request.serving_tier = copy.placement.serving_tier
        request.billing_tier = copy.placement.billing_tier
        for other in request.copies:
            if other is not copy and not other.cut:
                self._lose(other)
                if request.copies.index(other) < request.copies.index(copy):
                    self.live.late(other.node_id, network.now_ms)

    def _learn(self, copy: Copy, *, censored: bool = False) -> None:
        chosen, now = copy.placement.chosen, self._network.now_ms
        outcome = Outcome(
            chosen.load, chosen.network.total_ms, now - copy.began_ms, now, censored=censored
        )
        self.predictor.learn(copy.node_id, MODEL, chosen.replica.profile, outcome)

    def ended(self, copy: Copy) -> None:
        """A whole answer came here."""
        if copy.cut:
            return
        now, arrival = self._network.now_ms, copy.request.arrival
        self.live.request_ended(copy.node_id, copy.prompt)
        self.live.succeeded(copy.node_id)
        name = deployment_name(arrival.budget_ms)
        self.prompt_tokens.counted(name, arrival.body_bytes, arrival.prompt_tokens)
        copy.request.ended = True
        assert now >= copy.began_ms

    def told(
        self, node_id: str, load: ToldLoad, *, ready_models: tuple[str, ...] | None = None
    ) -> None:
        """A node told its load."""
        self.live.reported(
            node_id,
            self._network.now_ms,
            in_flight=load.in_flight,
            queued=load.queued,
            fill_ratio=load.fill_ratio,
            ready_models=ready_models,
        )

    def probed(self, node_id: str, sent_ms: float, load: ToldLoad) -> None:
        """A probe's answer came back."""
        now = self._network.now_ms
        self.live.probed(node_id, now - sent_ms, now)
        self.told(node_id, load, ready_models=READY)


def cost_nano_usd(view: FleetView, request: Request, tier: Tier) -> int:
    """Return what the request's tokens cost at ``tier``."""
    price = view.prices[SIZE_CLASS, tier]
    arrival = request.arrival
    usage = Usage(arrival.prompt_tokens, 0, arrival.completion_tokens)
    return cost_of(usage, price).total_nano_usd
