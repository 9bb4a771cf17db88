"""An agent's gateway in the midst of a large fleet, for as long as requests are placed on it.

Everything that a placement reads is real and filled: live state, connections, prefixes, outcomes.
Clients ask for one model, or for many, the n-th an n-th as often as the first. Between two
placements a millisecond passes, and what happens in it changes what the next will read: a request
goes out, another's first token comes, a third ends, a node answers the probe of each second.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from types import SimpleNamespace
from typing import Any

from agent.core.engine_queue import EngineQueue
from agent.core.exploration import EXPLORE_RATIO, Exploration
from agent.core.fill import FillMeter
from agent.core.live import LiveState
from agent.core.prefixes import PrefixMemory, prompt_blocks
from agent.formats.body import GenerationBody
from agent.formats.chat import CHAT
from agent.gateway.context import GatewayContext, target_lookup
from agent.gateway.placing import Placing
from agent.peers.pool import PeerPool
from protos.domain.fleet_view import FleetView
from protos.domain.predictor import FEW_OBSERVATIONS, Outcome, Predictor
from protos.domain.prompt_tokens import PromptTokens
from protos.domain.regimes import Load
from protos.domain.router import Placement, place
from tests.bench.large_fleet import model_name

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


class Gateway:
    """Places requests for so many models."""

    def __init__(self, view: FleetView, chance: random.Random, models: int) -> None:
        self.view, self._chance = view, chance
        self.now_ms = 1_000_000.0
        self._models = [model_name(index) for index in range(models)]
        self._nodes = sorted({node for model in self._models for node in view.replicas[model]})
        self._prompts = {
            model: [
                prompt_blocks(bytes([number]) * PROMPT_BYTES, model, "salt")
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
        self.live = LiveState()
        self.around = self._surroundings()
        for node_id in self._nodes:
            for _ in range(8):
                self._probe(node_id)

    def _surroundings(self) -> GatewayContext:
        everything: dict[str, Any] = {each.name: None for each in fields(GatewayContext)}
        everything |= {
            "node_id": SELF_NODE_ID,
            "view": lambda: self.view,
            "engines": SimpleNamespace(endpoint_for=lambda model: None),
            "peers": self._peers(),
            "live": self.live,
            "prefixes": self._prefixes(),
            "predictor": self._outcomes(),
            "prompt_tokens": PromptTokens(),
            "exploration": Exploration(EXPLORE_RATIO),
            "engine_queue": EngineQueue(16),
            "own_fill": FillMeter(2_000.0),
            "now_mono_ms": lambda: self.now_ms,
            "draw": self._chance.random,
            "edge_fill_ratio": 0.7,
        }
        return GatewayContext(**everything)

    def _peers(self) -> PeerPool:
        config = SimpleNamespace(source_address="", warm_spares=2, max_warm_targets=WARM_TARGETS)
        tls = SimpleNamespace(client=None)
        peers = PeerPool(
            SELF_NODE_ID, config, tls, lambda: self.view, self.live, lambda: self.now_ms
        )
        for node_id in self._chance.sample(self._nodes, min(WARM_TARGETS, len(self._nodes))):
            pool = peers.pool_for(node_id)
            assert pool is not None
            pool.give_back(SimpleNamespace(reusable=True, closed=False))
        return peers

    def _prefixes(self) -> PrefixMemory:
        memory, chance = PrefixMemory(), self._chance
        for model in self._models:
            for prompt in self._prompts[model]:
                for node_id in chance.sample(sorted(self.view.replicas[model]), 3):
                    memory.seen(node_id, model, 1, prompt, self.now_ms)
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

    def requests(self, count: int, budgets_ms: tuple[float, ...]) -> Iterator[Placing]:
        """Yield so many requests, ready to be placed."""
        chance = self._chance
        popularity = [1.0 / rank for rank in range(1, len(self._models) + 1)]
        body = GenerationBody(CHAT, "chat", {}, True, True, True, PROMPT_TOKENS, False)
        for model in chance.choices(self._models, popularity, k=count):
            yield Placing(
                self.around,
                SimpleNamespace(prompt=chance.choice(self._prompts[model]), budget_left_ms=0.0),
                SimpleNamespace(
                    body=bytes(PROMPT_BYTES), first_byte_mono_ms=self.now_ms, last_mile_ms=5.0
                ),
                SimpleNamespace(budget_ms=chance.choice(budgets_ms)),
                body,
                chance.choice(self._deployments[model]),
            )

    def with_states_ready(self, placing: Placing) -> Callable[[], Placement]:
        """Return the call of ``place`` that ``placing`` makes, with all look-ups done already."""
        around, shape = self.around, placing._shape(self.now_ms, strict=False)
        model = shape.deployment.model
        look_up = target_lookup(around, model, self.now_ms, placing._asking.prompt)
        states = {node_id: look_up(node_id) for node_id in self.view.replicas[model]}
        fill = {node_id: self._chance.random() for node_id in states}
        return partial(
            place, self.view, shape, SELF_NODE_ID, states.__getitem__,
            draw=self._chance.random(), fill=fill.__getitem__,
            learned=around.predictor.of_model(model),
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
