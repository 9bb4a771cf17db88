"""An agent in simulated time: the product's request machine on a simulated network.

Performs the machine's commands and reports its events as ``agent.gateway.runner`` does on sockets;
decides nothing. Connections are warm, prompts share no prefix, and nothing breaks.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from agent.core.coverage import Coverage
from agent.core.engine_admission import EngineAdmission
from agent.core.engine_door import EngineDoor
from agent.core.exploration import Exploration
from agent.core.fill import FillMeter
from agent.core.half_open import HalfOpenTargets
from agent.core.hedging import HEDGE_RATIO, HedgeBudget
from agent.core.live import LiveState
from agent.core.peer_load import PeerLoad
from agent.core.prefixes import NO_BLOCKS, PrefixMemory
from agent.core.prompt_tokens import PromptTokens
from agent.core.request.attempt import Attempt
from agent.core.request.context import RequestContext
from agent.core.request.log import AttemptLog, RequestLog
from agent.core.request.machine import RequestMachine
from agent.core.request.messages import (
    Account,
    Ask,
    AttemptEnded,
    Begun,
    Cancel,
    Command,
    DeadlinePassed,
    Ending,
    Event,
    FirstToken,
    Hold,
    PlaceDecided,
    WriteEnd,
    WriteHead,
    WriteHeartbeat,
)
from agent.core.request.state import RouterState
from agent.core.request.timing import RequestPolicy
from protos.domain.fleet_view import FleetView
from protos.domain.predictor import Predictor
from protos.domain.pricing import Usage, cost_of
from protos.domain.resources import EngineProfile, Tier
from protos.domain.trace import AttemptPurpose
from tests.support.own_engines import StandInEngines
from tests.support.simulated_engine import Asked, SimulatedEngine
from tests.support.wan_world import MODEL, SIZE_CLASS, Arrival, deployment_name

READY = (MODEL,)
POLICY = RequestPolicy()


@dataclass(slots=True, eq=False)
class Sent:
    """One attempt on the network: its target, its request there, and where answers go."""

    source: str
    node_id: str
    body_bytes: int
    asked: Asked
    on_first_token: Callable[[PeerLoad], None]
    on_ended: Callable[[], None]
    #: The product's attempt; None for a rival's.
    attempt: Attempt | None = None
    #: When it reaches its node: an abort cannot overtake it.
    there_ms: float = 0.0
    back_ms: float = 0.0
    #: Whether it is at its node's engine now.
    inside: bool = False
    #: Whether it was cut: what still comes back of it is not reported.
    unwanted: bool = False


class Network(Protocol):
    """Time, and the ways between agents."""

    now_ms: float

    def later(self, at_ms: float, what: Callable[[], None]) -> None:
        """Call ``what`` at ``at_ms``."""

    def send(self, sent: Sent) -> None:
        """Let ``sent`` travel to its node and into its engine."""

    def abort(self, sent: Sent) -> None:
        """Let the abort of ``sent`` travel to its node."""


@dataclass(slots=True, eq=False)
class Request:
    """One client's request: the agent's log of it, and what its client was sent."""

    arrival: Arrival
    log: RequestLog
    heads: int = 0
    heartbeats: int = 0
    ends: int = 0
    #: Error responses, error events, cut connections: every other command that answers.
    errors: int = 0
    sent: list[Sent] = field(default_factory=list)

    @property
    def ttft_ms(self) -> float | None:
        """First token at the client: the last mile is in it."""
        return self.log.felt_ttft_ms

    @property
    def first_attempt(self) -> AttemptLog | None:
        """The attempt that was asked before all others; the log has them in order of ending."""
        return min(self.log.attempts, key=lambda each: each.began_mono_ms, default=None)

    def has(self, purpose: AttemptPurpose) -> bool:
        """Whether one of its attempts had ``purpose``."""
        return any(each.purpose is purpose for each in self.log.attempts)


class SimulatedNode:
    """One host: an engine, and what its agent counts of it."""

    def __init__(self, node_id: str, engine: SimulatedEngine, profile: EngineProfile) -> None:
        self.node_id = node_id
        self.engine = engine
        self.queue = EngineDoor(EngineAdmission(profile.max_parallel))
        self.fill = FillMeter(profile.tokens_per_s)

    def load(self, now_ms: float) -> PeerLoad:
        """Return what the node reports of itself in a probe's answer and on a response."""
        queue = self.queue
        return PeerLoad(
            queue.serving, queue.waiting, self.fill.fill_ratio(now_ms), newcomer=queue.newcomer()
        )


class SimulatedAgent:
    """Serves its clients; ``edge_fill_ratio`` and ``explore_ratio`` as in the configuration."""

    def __init__(
        self,
        node: SimulatedNode,
        view: FleetView,
        network: Network,
        chance: random.Random,
        *,
        edge_fill_ratio: float,
        explore_ratio: float,
    ) -> None:
        self.node_id = node.node_id
        self.network = network
        self.state = RouterState(
            node_id=node.node_id,
            view=lambda: view,
            own_engines=StandInEngines(lambda name: name == MODEL),
            is_warm=lambda _node_id: True,
            draw=chance.random,
            live=LiveState(),
            engine_door=node.queue,
            prefixes=PrefixMemory(),
            predictor=Predictor(),
            coverage=Coverage(),
            prompt_tokens=PromptTokens(),
            hedges=HedgeBudget(HEDGE_RATIO),
            exploration=Exploration(explore_ratio),
            half_open=HalfOpenTargets(),
            own_fill=node.fill,
            edge_fill_ratio=edge_fill_ratio,
        )

    def arrive(self, arrival: Arrival) -> Request:
        """Serve a client's request, which was read now; return its result, filled in later."""
        request = Request(arrival, log_of(arrival))
        RequestDriver(self, request).handle(Begun())
        return request

    def probed(self, node_id: str, sent_ms: float, load: PeerLoad) -> None:
        """A probe's answer came back."""
        now_ms, live = self.network.now_ms, self.state.live
        live.probed(node_id, now_ms - sent_ms, now_ms)
        live.reported(
            node_id,
            now_ms,
            in_flight=load.in_flight,
            queued=load.queued,
            fill_ratio=load.fill_ratio,
            newcomer=load.newcomer,
            ready_models=READY,
        )


class RequestDriver:
    """Performs the commands of one request's machine in simulated time."""

    def __init__(self, agent: SimulatedAgent, request: Request) -> None:
        self._agent = agent
        self._network = agent.network
        self._request = request
        context = _context(agent.state.view(), request.arrival)
        self._machine = RequestMachine(agent.state, context, POLICY, request.log)
        self._timer_ms = math.inf
        self._answering: Attempt | None = None

    def handle(self, event: Event) -> None:
        """Give ``event`` to the machine and perform its commands."""
        machine = self._machine
        for command in machine.handle(event, self._network.now_ms):
            self._perform(command)
        due_ms = machine.next_deadline_mono_ms
        if not machine.over and due_ms < self._timer_ms:
            self._timer_ms = due_ms
            self._network.later(due_ms, lambda: self._on_timer(due_ms))

    def _perform(self, command: Command) -> None:
        request = self._request
        if isinstance(command, Ask):
            self._ask(command.attempt)
        elif isinstance(command, Hold):
            self._hold(command.attempt)
        elif isinstance(command, Cancel):
            sent = command.attempt.io
            if isinstance(sent, Sent):
                self._network.abort(sent)
        elif isinstance(command, WriteHead):
            self._answering = command.attempt
            request.heads += 1
        elif isinstance(command, WriteHeartbeat):
            request.heartbeats += 1
        elif isinstance(command, WriteEnd):
            request.ends += 1
        elif not isinstance(command, Account):
            request.errors += 1

    def _hold(self, attempt: Attempt) -> None:
        assert attempt.place is not None
        attempt.place.on_decided = lambda _place, _now: self.handle(PlaceDecided(attempt))

    def _ask(self, attempt: Attempt) -> None:
        arrival = self._request.arrival
        asked = Asked(arrival.prompt_tokens, arrival.completion_tokens)
        attempt.io = sent = Sent(
            arrival.node_id,
            attempt.node_id,
            arrival.body_bytes,
            asked,
            lambda load: self._on_first_token(attempt, load),
            lambda: self._on_ended(attempt),
            attempt,
        )
        self._request.sent.append(sent)
        self._network.send(sent)

    def _on_first_token(self, attempt: Attempt, load: PeerLoad) -> None:
        attempt.last_read_mono_ms = self._network.now_ms
        at_peer = attempt.node_id != self._agent.node_id
        self.handle(FirstToken(attempt, load if at_peer else None))

    def _on_ended(self, attempt: Attempt) -> None:
        usage = usage_of(self._request.arrival)
        self.handle(AttemptEnded(attempt, Ending.STREAM, 200, usage=usage))

    def _on_timer(self, due_ms: float) -> None:
        if due_ms != self._timer_ms:
            return  # an earlier one was set meanwhile
        self._timer_ms = math.inf
        if self._answering is not None:  # its engine generates with every step
            self._answering.last_read_mono_ms = self._network.now_ms
        self.handle(DeadlinePassed())


def log_of(arrival: Arrival) -> RequestLog:
    """Return the log of a request that has just been read."""
    log = RequestLog("0" * 32, 0, "/v1/chat/completions", arrival.at_ms, arrival.at_ms)
    log.last_mile_ms, log.budget_ms = arrival.last_mile_ms, float(arrival.budget_ms)
    log.deployment, log.stream = deployment_name(arrival.budget_ms), True
    return log


def _context(view: FleetView, arrival: Arrival) -> RequestContext:
    deployment = view.deployments[deployment_name(arrival.budget_ms)]
    return RequestContext(
        view=view,
        account=deployment.account_id,
        key_digest=b"k",
        deployment=deployment,
        stream=True,
        embeds=False,
        needs_tool_parser=False,
        prompt_tokens=arrival.body_bytes // 8,
        body_bytes=arrival.body_bytes,
        budget_ms=float(arrival.budget_ms),
        last_mile_ms=arrival.last_mile_ms,
        first_byte_mono_ms=arrival.at_ms,
        zones=None,
        blocks=NO_BLOCKS,
    )


def usage_of(arrival: Arrival) -> Usage:
    """Return the tokens that an engine counts of the request."""
    return Usage(arrival.prompt_tokens, 0, arrival.completion_tokens)


def cost_nano_usd(view: FleetView, request: Request, tier: Tier) -> int:
    """Return what the request's tokens cost at ``tier``."""
    return cost_of(usage_of(request.arrival), view.prices[SIZE_CLASS, tier]).total_nano_usd
