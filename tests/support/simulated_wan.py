"""The wide-area fleet running: events in order of time, engines that step, probes, rivals."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent.core.engine_place import Place, Work
from agent.core.exploration import EXPLORE_RATIO
from agent.core.peer_load import PeerLoad
from protos.domain.choice import EDGE_FILL_RATIO
from protos.domain.fleet_view import FleetView
from protos.domain.resources import Tier
from protos.domain.ttft import transfer_time_ms
from tests.support.simulated_agent import Request, Sent, SimulatedAgent, SimulatedNode, log_of
from tests.support.simulated_engine import Asked, SimulatedEngine
from tests.support.wan_world import (
    SPEEDS,
    Arrival,
    fleet_view,
    pops_by_node,
    profile_of,
    round_trip_between_ms,
)

PROBE_EVERY_MS = 1_000.0
#: Round trips vary by this share, and one packet in so many takes longer.
JITTER, SPIKE_RATIO, SPIKE_FACTOR = 0.03, 0.004, 1.6
#: One regional engine is so much slower for part of the run.
SLOW_NODE, SLOWNESS, SLOW_FROM, SLOW_TO = "dxb-1", 2.0, 0.55, 0.7


@dataclass
class Run:
    """All requests of one run, and what was seen of the fleet meanwhile."""

    view: FleetView
    requests: list[Request] = field(default_factory=list)
    #: Requests that had to wait for a place while another node of that site had one.
    herded: int = 0
    queued: int = 0
    sent: int = 0


class Wan:
    """One fleet in simulated time; the same arguments give the same run."""

    def __init__(
        self,
        arrivals: Sequence[Arrival],
        length_ms: float,
        seed: int,
        *,
        policy: str = "edgeforge",
        strict: bool = False,
        edge_fill_ratio: float = EDGE_FILL_RATIO,
        explore_ratio: float = EXPLORE_RATIO,
    ) -> None:
        self.now_ms = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._chance = random.Random(seed)
        self._pops = pops_by_node()
        self._rtts_ms = {
            (source, destination): round_trip_between_ms(a, b)
            for source, a in self._pops.items()
            for destination, b in self._pops.items()
        }
        view = fleet_view(strict=strict)
        self.run_ = Run(view)
        self._arrivals = arrivals
        self._length_ms = length_ms
        self._policy = policy
        self.nodes = {
            node_id: self._node(node_id, seed + number) for number, node_id in enumerate(self._pops)
        }
        self.agents = {
            node_id: SimulatedAgent(
                node,
                view,
                self,
                random.Random(seed + 100 + number),
                edge_fill_ratio=edge_fill_ratio,
                explore_ratio=explore_ratio,
            )
            for number, (node_id, node) in enumerate(self.nodes.items())
        }
        self._stepping: set[str] = set()
        #: Places at their engines of requests that came from another node, or a rival.
        self._places: dict[Sent, Place] = {}
        self._rival = _RIVALS.get(policy)
        self._turn = dict.fromkeys(self._pops, 0)

    def _node(self, node_id: str, seed: int) -> SimulatedNode:
        """Return a node whose engine is not quite as its profile says, and drifts."""
        chance = random.Random(seed)
        speed = SPEEDS[self._pops[node_id].tier]
        usual, phase = chance.uniform(0.9, 1.15), chance.uniform(0.0, 2 * math.pi)

        def slowness(now_ms: float) -> float:
            factor = usual * (1.0 + 0.1 * math.sin(phase + now_ms / 60_000.0))
            share = now_ms / self._length_ms
            slow = node_id == SLOW_NODE and SLOW_FROM <= share < SLOW_TO
            return factor * SLOWNESS if slow else factor

        return SimulatedNode(node_id, SimulatedEngine(speed, chance, slowness), profile_of(speed))

    # -- time and network

    def later(self, at_ms: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_ms, next(self._order), what))

    def one_way_ms(self, source: str, destination: str, body_bytes: int = 0) -> float:
        """Half a round trip as it is this time, and what a body's size adds to it."""
        if source == destination:
            return 0.0
        chance = self._chance
        rtt_ms = self._rtts_ms[source, destination] * chance.lognormvariate(0.0, JITTER)
        if chance.random() < SPIKE_RATIO:
            rtt_ms *= SPIKE_FACTOR
        transfer_ms = transfer_time_ms(body_bytes, rtt_ms) if body_bytes else 0.0
        return rtt_ms / 2 + transfer_ms

    def run(self) -> Run:
        """Run all events; return the results."""
        for number, source in enumerate(self.agents):
            if self._rival is None:
                offset_ms = number * PROBE_EVERY_MS / len(self.agents)
                self.later(offset_ms - PROBE_EVERY_MS, lambda source=source: self._probe(source))
        for arrival in self._arrivals:
            self.later(arrival.at_ms, lambda arrival=arrival: self._arrive(arrival))
        events = self._events
        while events:
            self.now_ms, _, what = heapq.heappop(events)
            what()
        return self.run_

    def _arrive(self, arrival: Arrival) -> None:
        if self._rival is None:
            request = self.agents[arrival.node_id].arrive(arrival)
        else:
            request = self._ask_rival(arrival, self._rival(self, arrival.node_id))
        self.run_.requests.append(request)

    def _probe(self, source: str) -> None:
        if self.now_ms < self._length_ms:
            self.later(self.now_ms + PROBE_EVERY_MS, lambda: self._probe(source))
        agent, sent_ms = self.agents[source], self.now_ms
        for node_id, node in self.nodes.items():
            if node_id == source:
                continue

            def there(node: SimulatedNode = node) -> None:
                load = node.load(self.now_ms)
                back_ms = self.now_ms + self.one_way_ms(node.node_id, source)
                self.later(back_ms, lambda: agent.probed(node.node_id, sent_ms, load))

            self.later(sent_ms + self.one_way_ms(source, node_id), there)

    # -- requests at their target

    def send(self, sent: Sent) -> None:
        way_ms = self.one_way_ms(sent.source, sent.node_id, sent.body_bytes)
        sent.there_ms = self.now_ms + way_ms
        sent.back_ms = self.one_way_ms(sent.node_id, sent.source)
        self.run_.sent += 1
        self.later(sent.there_ms, lambda: self._submit(sent))

    def _submit(self, sent: Sent) -> None:
        node, attempt = self.nodes[sent.node_id], sent.attempt
        # at its own node's engine the request machine has entered it already
        place = attempt.place if attempt is not None else None
        if place is None:
            work = Work("acme", prompt_tokens=sent.asked.prompt_tokens)
            place = self._places[sent] = node.queue.enter(work, self.now_ms)
        sent.inside = True
        if place.waits:
            place.on_decided = lambda _place, _now: self._give(node, sent)
        if place.waits or place.served_mono_ms != place.entered_mono_ms:
            self.run_.queued += 1
            self.run_.herded += any(
                other.queue.serving < other.engine.speed.max_parallel
                for other in self.nodes.values()
                if other is not node and self._pops[other.node_id] is self._pops[node.node_id]
            )
        if not place.waits:
            self._give(node, sent)

    def _give(self, node: SimulatedNode, sent: Sent) -> None:
        sent.asked.note = sent
        node.engine.submit(sent.asked, self.now_ms)
        self._keep_stepping(node)

    def abort(self, sent: Sent) -> None:
        way_ms = self.one_way_ms(sent.source, sent.node_id)
        self.later(max(self.now_ms + way_ms, sent.there_ms), lambda: self._aborted(sent))
        sent.unwanted = True

    def _aborted(self, sent: Sent) -> None:
        if sent.inside:
            node = self.nodes[sent.node_id]
            node.engine.abort(sent.asked)
            self._leave(node, sent)

    def _leave(self, node: SimulatedNode, sent: Sent) -> None:
        sent.inside = False
        if sent in self._places:
            node.queue.leave(self._places.pop(sent), self.now_ms)

    def _keep_stepping(self, node: SimulatedNode) -> None:
        at_ms = node.engine.next_step_ms
        if at_ms < math.inf and node.node_id not in self._stepping:
            self._stepping.add(node.node_id)
            self.later(at_ms, lambda: self._step(node))

    def _step(self, node: SimulatedNode) -> None:
        self._stepping.discard(node.node_id)
        generating = node.engine.generating
        for told in node.engine.step():
            asked, ended = told.asked, told.ended
            if not ended:
                generating += 1
            self.later(told.at_ms, lambda asked=asked, ended=ended: self._tell(node, asked, ended))
        node.fill.count(generating, self.now_ms)
        self._keep_stepping(node)

    def _tell(self, node: SimulatedNode, asked: Asked, ended: bool) -> None:
        """Let the generated tokens travel back to the agent that asked."""
        if asked.aborted:
            return
        sent = asked.note
        assert isinstance(sent, Sent)
        back_ms = self.now_ms + sent.back_ms
        if ended:
            self._leave(node, sent)
            self.later(back_ms, lambda: None if sent.unwanted else sent.on_ended())
        else:
            load = node.load(self.now_ms)
            self.later(back_ms, lambda: None if sent.unwanted else sent.on_first_token(load))

    # -- rivals, which do not predict

    def _ask_rival(self, arrival: Arrival, node_id: str) -> Request:
        """Send a request to ``node_id``, where it stays whatever happens."""
        log = log_of(arrival)
        log.serving_tier = log.billing_tier = self._pops[node_id].tier
        request, live = Request(arrival, log), self.agents[arrival.node_id].state.live

        def first_token(_load: PeerLoad) -> None:
            log.first_token_mono_ms = self.now_ms

        def ended() -> None:
            live.request_ended(node_id)
            request.ends += 1

        live.request_started(node_id, self.now_ms)
        asked = Asked(arrival.prompt_tokens, arrival.completion_tokens)
        sent = Sent(arrival.node_id, node_id, arrival.body_bytes, asked, first_token, ended)
        self.send(sent)
        return request

    def nearest(self, node_id: str) -> str:
        return node_id

    def central(self, node_id: str) -> str:
        """The central node with the fewest requests from this agent."""
        live = self.agents[node_id].state.live
        central = [each for each, pop in self._pops.items() if pop.tier is Tier.CENTRAL]
        return min(central, key=lambda each: (live.in_flight(each), self._chance.random()))

    def round_robin(self, node_id: str) -> str:
        self._turn[node_id] += 1
        names = list(self.nodes)
        return names[self._turn[node_id] % len(names)]


_RIVALS: dict[str, Callable[[Wan, str], str]] = {
    "nearest": Wan.nearest,
    "central": Wan.central,
    "round_robin": Wan.round_robin,
}
RIVALS = tuple(_RIVALS)
