"""An agent in the midst of a large fleet, for as long as requests are placed on it.

Everything that a placement reads is real and filled: live state, connections, prefixes, outcomes.
Clients ask for one model, or for many, the n-th an n-th as often as the first. Between two
placements a millisecond passes, and what happens in it changes what the next will read: a request
goes out, another's first token comes, a third ends, a node answers the probe of each second.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace

from agent.core.coverage import Coverage
from agent.core.engine_admission import EngineAdmission
from agent.core.engine_door import EngineDoor
from agent.core.exploration import EXPLORE_RATIO, Exploration
from agent.core.fill import FillMeter
from agent.core.half_open import HalfOpenTargets
from agent.core.hedging import HEDGE_RATIO, HedgeBudget
from agent.core.live import LiveState
from agent.core.prefixes import PrefixMemory, prompt_blocks
from agent.core.prompt_tokens import PromptTokens
from agent.core.request.context import RequestContext
from agent.core.request.log import RequestLog
from agent.core.request.machine import RequestMachine
from agent.core.request.messages import Ask, AttemptEnded, Begun, Command, Ending, FirstToken
from agent.core.request.placing import Placer
from agent.core.request.state import RouterState
from agent.core.request.timing import RequestPolicy
from agent.peers.pool import PeerPool
from agent.relay.upstream import UpstreamConnection
from protos.domain.fleet_view import FleetView
from protos.domain.predictor import FEW_OBSERVATIONS, Outcome, Predictor
from protos.domain.regimes import Load
from protos.domain.router import Placement, place
from tests.bench.large_fleet import model_name
from tests.support.own_engines import StandInEngines

SELF_NODE_ID = "n-7"
#: With 20 replicas each they are about what a predictor remembers.
MANY_MODELS = 50
WARM_TARGETS = 64
#: Prompts that begin alike, and the bytes of one.
PREFIXES, PROMPT_BYTES = 20, 2_048
PROMPT_TOKENS = 500
#: Requests of a model without a first token, and streams of it, at any time.
WAITING, STREAMING = 4, 40
PROBE_EVERY_MS = 1_000.0
BUDGETS_MS = (150.0, 200.0, 300.0)
POLICY = RequestPolicy()


class Gateway:
    """Requests for so many models, and the state that they are decided on."""

    def __init__(self, view: FleetView, chance: random.Random, models: int) -> None:
        self.view, self._chance = view, chance
        self.now_ms = 1_000_000.0
        self._models = [model_name(index) for index in range(models)]
        self._nodes = sorted({node for model in self._models for node in view.replicas[model]})
        self._prompts = {
            model: [
                prompt_blocks(bytes([number]) * PROMPT_BYTES, model, "acme")
                for number in range(PREFIXES)
            ]
            for model in self._models
        }
        self._deployments = {
            model: [each for each in view.deployments.values() if each.model == model]
            for model in self._models
        }
        self._rtts_ms = {node_id: chance.uniform(1, 60) for node_id in self._nodes}
        self._waiting: deque[tuple[str, int]] = deque()
        self._streaming: deque[tuple[str, int]] = deque()
        self._asked: deque[tuple[RequestMachine, Ask]] = deque()
        self._answering: deque[tuple[RequestMachine, Ask]] = deque()
        self.live = LiveState()
        self.state = self._state()
        for node_id in self._nodes:
            for _ in range(8):
                self._probe(node_id)

    def _state(self) -> RouterState:
        return RouterState(
            node_id=SELF_NODE_ID,
            view=lambda: self.view,
            own_engines=StandInEngines(lambda _name: False),
            is_warm=self._peers().is_warm,
            draw=self._chance.random,
            live=self.live,
            engine_door=EngineDoor(EngineAdmission(16)),
            prefixes=self._prefixes(),
            predictor=self._outcomes(),
            coverage=Coverage(),
            prompt_tokens=PromptTokens(),
            hedges=HedgeBudget(HEDGE_RATIO),
            exploration=Exploration(EXPLORE_RATIO),
            half_open=HalfOpenTargets(),
            own_fill=FillMeter(2_000.0),
            edge_fill_ratio=0.7,
        )

    def _peers(self) -> PeerPool:
        config = SimpleNamespace(source_address="", warm_spares=2, max_warm_targets=WARM_TARGETS)
        tls = SimpleNamespace(client=None, check_node=lambda node_id, transport: None)
        peers = PeerPool(
            SELF_NODE_ID, config, tls, lambda: self.view, self.live, lambda: self.now_ms
        )
        for node_id in self._chance.sample(self._nodes, min(WARM_TARGETS, len(self._nodes))):
            pool = peers.pool_for(node_id)
            assert pool is not None
            pool.give_back(_open_connection())
        return peers

    def _prefixes(self) -> PrefixMemory:
        memory, chance = PrefixMemory(), self._chance
        for model in self._models:
            for prompt in self._prompts[model]:
                for node_id in chance.sample(sorted(self.view.replicas[model]), 3):
                    memory.record(node_id, model, 1, prompt, self.now_ms)
        return memory

    def _outcomes(self) -> Predictor:
        """Enough of every target, in all its regimes."""
        predictor, chance = Predictor(), self._chance
        for model in self._models:
            for node_id, replica in self.view.replicas[model].items():
                for number in range(3 * FEW_OBSERVATIONS):
                    waits = (0.0, 2_000.0, 0.0)[number % 3], (0.0, 0.0, 2.0)[number % 3]
                    load = Load(chance.uniform(100, 2_000), chance.randrange(12), *waits)
                    took_ms = chance.uniform(30, 60) + 40.0 * (number % 3)
                    outcome = Outcome(load, 10.0, took_ms, number * 200.0)
                    predictor.learn(node_id, model, replica.profile, outcome)
        return predictor

    def requests(self, count: int, budgets_ms: tuple[float, ...]) -> Iterator[RequestContext]:
        """Yield so many streams, ready to be placed."""
        chance = self._chance
        popularity = [1.0 / rank for rank in range(1, len(self._models) + 1)]
        for model in chance.choices(self._models, popularity, k=count):
            yield RequestContext(
                view=self.view,
                account="acme",
                key_digest=b"k",
                deployment=chance.choice(self._deployments[model]),
                stream=True,
                embeds=False,
                needs_tool_parser=False,
                prompt_tokens=PROMPT_TOKENS,
                body_bytes=PROMPT_BYTES,
                budget_ms=chance.choice(budgets_ms),
                last_mile_ms=5.0,
                first_byte_mono_ms=self.now_ms,
                zones=None,
                blocks=chance.choice(self._prompts[model]),
            )

    def place(self, request: RequestContext) -> Placement:
        """Place the first attempt of ``request``, with all look-ups."""
        return Placer(self.state, request).next_attempt(self.now_ms)

    def begin(self, request: RequestContext) -> tuple[RequestMachine, list[Command]]:
        """Run ``request`` from its admission until its first attempt is to be sent."""
        log = RequestLog("0" * 32, 0, "/v1/chat/completions", self.now_ms, self.now_ms)
        machine = RequestMachine(self.state, request, POLICY, log)
        return machine, machine.handle(Begun(), self.now_ms)

    def with_states_ready(self, request: RequestContext) -> Callable[[], Placement]:
        """Return the call of ``place`` that ``request`` makes, with all look-ups done already."""
        state, model = self.state, request.deployment.model
        shape = Placer(state, request)._shape(self.now_ms, strict=False)
        look_up = state.targets(model, self.now_ms, request.blocks)
        states = {node_id: look_up(node_id) for node_id in self.view.replicas[model]}
        fill = {node_id: self._chance.random() for node_id in states}
        return partial(
            place, self.view, shape, SELF_NODE_ID, states.__getitem__,
            draw=self._chance.random(), fill=fill.__getitem__,
            learned=state.predictor.of_model(model),
        )  # fmt: skip

    def go_on(self, placement: Placement) -> None:
        """Send what was placed, and let a millisecond pass."""
        self.now_ms += 1.0
        node_id = placement.chosen.node.id
        tokens = placement.chosen.load.prompt_tokens
        self._waiting.append((node_id, self.live.request_started(node_id, self.now_ms, tokens)))
        if len(self._waiting) > WAITING * len(self._models):
            sent = self._waiting.popleft()
            self.live.first_token(*sent, self.now_ms)
            self._streaming.append(sent)
        if len(self._streaming) > STREAMING * len(self._models):
            self.live.request_ended(*self._streaming.popleft())
        self._answer_a_probe()

    def answer_others(self, machine: RequestMachine, ask: Ask) -> None:
        """Let a millisecond pass after ``machine`` has asked, and others get their answers."""
        self.now_ms += 1.0
        self._asked.append((machine, ask))
        if len(self._asked) > WAITING * len(self._models):
            other, sent = self._asked.popleft()
            other.handle(FirstToken(sent.attempt, None), self.now_ms)
            self._answering.append((other, sent))
        if len(self._answering) > STREAMING * len(self._models):
            other, sent = self._answering.popleft()
            other.handle(AttemptEnded(sent.attempt, Ending.STREAM, 200), self.now_ms)
        self._answer_a_probe()

    def _answer_a_probe(self) -> None:
        if self._chance.random() < len(self._nodes) / PROBE_EVERY_MS:
            self._probe(self._chance.choice(self._nodes))

    def _probe(self, node_id: str) -> None:
        chance = self._chance
        self.live.probed(node_id, self._rtts_ms[node_id] * chance.uniform(1.0, 1.2), self.now_ms)
        self.live.reported(
            node_id,
            self.now_ms,
            in_flight=chance.randrange(12),
            queued=0,
            fill_ratio=chance.random(),
            ready_models=[model for model in self._models if node_id in self.view.replicas[model]],
        )


def _open_connection() -> UpstreamConnection:
    connection = UpstreamConnection(lambda closed: None)
    connection.connection_made(
        SimpleNamespace(get_extra_info=lambda name: None, is_closing=lambda: False)
    )
    return connection
