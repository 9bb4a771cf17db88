"""Replays a trace on a simulated engine, as an agent sees it, with rival predictors.

The engine gets the trace; it drifts, slows down at once, and is as before. Part of the requests
come from another agent, of which the predictor sees only what a target tells with probes and
answers. Nobody reads the clock: time is the trace's.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import mean

from agent.core.backlog import Backlog
from agent.core.prompt_tokens import PromptTokens
from protos.domain.predictor import Outcome, Predictor, TargetModel
from protos.domain.regimes import Load
from protos.domain.resources import EngineProfile
from protos.domain.ttft import Network, predict
from tests.support.azure_trace import Line
from tests.support.one_target import predict_learned
from tests.support.predictor_oracle import law_inside_ms, law_outside_ms
from tests.support.predictor_rivals import RIVALS, Guess, Rival
from tests.support.simulated_engine import Asked, EngineSpeed, SimulatedEngine

REPORT_EVERY_MS = 1_000.0
#: When the engine changes its speed and when it returns to normal, as shares of the run.
STEP_AT, STEP_BACK_AT = 0.55, 0.75

#: How slow an engine is at a moment, given how long the run is.
Slowness = Callable[[float, float], float]


@dataclass(frozen=True)
class Case:
    """An engine, what its profile says, how far it is, and which part of the trace it gets."""

    name: str
    speed: EngineSpeed
    profile: EngineProfile
    rtt_ms: float
    every: int
    own_share: float


CASES = (
    Case(
        "fast",
        EngineSpeed(6.0, 0.03, 0.12, 64),
        EngineProfile(12.0, 0.03, 64, 6_000.0),
        rtt_ms=0.3,
        every=1,
        own_share=1.0,
    ),
    Case(
        "middle",
        EngineSpeed(12.0, 0.08, 0.3, 48),
        EngineProfile(20.0, 0.1, 48, 2_000.0),
        rtt_ms=18.0,
        every=3,
        own_share=0.75,
    ),
    Case(
        "slow",
        EngineSpeed(25.0, 0.2, 0.6, 16),
        EngineProfile(50.0, 0.15, 16, 400.0),
        rtt_ms=120.0,
        every=8,
        own_share=0.9,
    ),
)


@dataclass(frozen=True)
class Caching:
    """How much of a prompt is cached by its engine, and how well the agent estimates it."""

    #: Share of requests that repeat an earlier prefix; the others have no cached prompt.
    repeated: float = 0.0
    #: The least that is cached of such a prompt; the most is 0.95 of it.
    least: float = 0.2
    #: Deviation of the agent's estimate of the cached ratio.
    error: float = 0.0
    #: Share of the repeated ones whose blocks the engine dropped, unknown to the agent.
    dropped: float = 0.0
    #: For so long all repeated prompts have about the same share cached, which the agent does not
    #: know of; 0: each has its own.
    alike_for_ms: float = 0.0

    def draw(self, chance: random.Random, at_ms: float) -> tuple[float, float]:
        """Return the cached ratio of a request at ``at_ms`` and the agent's estimate of it."""
        if self.repeated == 0.0 or chance.random() >= self.repeated:
            return 0.0, 0.0
        cached = believed = chance.uniform(self.least, 0.95)
        if self.alike_for_ms:
            alike = random.Random(at_ms // self.alike_for_ms).uniform(self.least, 0.95)
            cached = alike * chance.uniform(0.9, 1.0)
        estimate = min(0.95, max(0.0, believed + chance.gauss(0.0, self.error)))
        return (0.0 if chance.random() < self.dropped else cached), estimate


NOTHING_CACHED = Caching()


def stepped(factor: float) -> Slowness:
    """Return an engine that drifts by a quarter, is ``factor`` as slow at once, then as before."""

    def at(now_ms: float, length_ms: float) -> float:
        drift = 1.0 + 0.25 * math.sin(2 * math.pi * now_ms / 2_400_000.0)
        return drift * (factor if STEP_AT <= now_ms / length_ms < STEP_BACK_AT else 1.0)

    return at


def alternating(factor: float, every_ms: float) -> Slowness:
    """Return an engine that is slow for ``every_ms``, then fast as long, and so on."""
    return lambda now_ms, _: factor if int(now_ms / every_ms) % 2 else 1.0


@dataclass(slots=True, eq=False)
class Sent:
    """One own request, its predictions, and its outcome."""

    at_ms: float
    prompt_tokens: int
    body_bytes: int
    load: Load
    back_ms: float
    guesses: dict[str, Guess]
    #: Its key in the backlog.
    prompt: int
    #: What the engine's law says without noise, for who sees what the agent sees ...
    law_outside_ms: float
    #: ... and for who sees into the engine.
    law_inside_ms: float = math.nan
    took_ms: float = math.nan

    def missed(self, who: str) -> bool:
        """Whether it took longer than ``who`` promised."""
        return self.took_ms > self.guesses[who].ttft_ms_p99

    def excess(self, who: str) -> float:
        """How far above the outcome the P99 lay, as a share of it."""
        return self.guesses[who].ttft_ms_p99 / self.took_ms - 1.0

    def error(self, who: str) -> float:
        """How far from the outcome the median lay, as a share of it."""
        return abs(self.guesses[who].ttft_ms_p50 / self.took_ms - 1.0)


def arrivals(lines: list[Line], every: int) -> Iterator[Line]:
    """Return each ``every``-th request, ``every`` times over, never the same one twice."""
    length_ms = lines[-1].at_ms + 1_000.0
    for round_ in range(every):
        for line in lines[round_::every]:
            yield Line(round_ * length_ms + line.at_ms, line.prompt_tokens, line.completion_tokens)


class Replay:
    """One engine, one agent that learns, and its rivals."""

    def __init__(
        self,
        case: Case,
        lines: list[Line],
        seed: int,
        slowness: Slowness,
        caching: Caching = NOTHING_CACHED,
        rivals: Mapping[str, Callable[[], Rival]] = RIVALS,
    ) -> None:
        self._case = case
        self._network = Network(case.rtt_ms, 0.0, 0.0)
        self._lines = list(arrivals(lines, case.every))
        self._completion_tokens = mean(line.completion_tokens for line in lines)
        self._caching = caching
        #: The run's length, of which ``STEP_AT`` is a share.
        self.length_ms = length_ms = self._lines[-1].at_ms
        self._chance = random.Random(seed)
        self._engine = SimulatedEngine(
            case.speed, random.Random(seed + 1), lambda now_ms: slowness(now_ms, length_ms)
        )
        self._predictor = Predictor()
        self._tokens = PromptTokens()
        self._rivals = {name: make() for name, make in rivals.items()}
        self._events: list[tuple[float, int, Asked | Sent, bool]] = []
        self._order = 0
        self._backlog = Backlog()
        self._own = 0
        self._told = 0
        self._told_queued = 0
        self._next_report_ms = 0.0

    @property
    def target(self) -> TargetModel:
        """What was learned of the engine."""
        return self._predictor.of_model("m")["n"]

    def run(self) -> list[Sent]:
        """Return every own request that was answered, in the order they were sent."""
        all_sent = []
        for line in self._lines:
            self._catch_up(line.at_ms)
            cached, estimate = self._caching.draw(self._chance, line.at_ms)
            uncached = max(1, round(line.prompt_tokens * (1.0 - cached)))
            asked, at_ms = Asked(uncached, line.completion_tokens), line.at_ms
            if self._chance.random() < self._case.own_share:
                there_ms = self._rtt_ms() / 2
                asked.note = sent = self._send(line, estimate)
                all_sent.append(sent)
                at_ms += there_ms
            self._push(at_ms, asked)
        self._catch_up(math.inf)
        return [sent for sent in all_sent if not math.isnan(sent.took_ms)]

    def _push(self, at_ms: float, what: Asked | Sent, ended: bool = False) -> None:
        self._order += 1
        heapq.heappush(self._events, (at_ms, self._order, what, ended))

    def _catch_up(self, now_ms: float) -> None:
        """Process every event before ``now_ms``, in order."""
        engine, events = self._engine, self._events
        while True:
            event_ms = events[0][0] if events else math.inf
            if min(event_ms, engine.next_step_ms) >= now_ms:
                return
            if event_ms > engine.next_step_ms:
                for told in engine.step():
                    if isinstance(sent := told.asked.note, Sent):
                        self._push(told.at_ms + sent.back_ms, sent, told.ended)
                continue
            at_ms, _, what, ended = heapq.heappop(events)
            if isinstance(what, Asked):
                if isinstance(sent := what.note, Sent):
                    sent.law_inside_ms = self._case.rtt_ms + law_inside_ms(engine, what, at_ms)
                engine.submit(what, at_ms)
            else:
                self._heard(what, at_ms, ended)

    def _rtt_ms(self) -> float:
        spike = 1.6 if self._chance.random() < 0.004 else 1.0
        return self._case.rtt_ms * self._chance.lognormvariate(0.0, 0.03) * spike

    def _read_report(self) -> None:
        self._told, self._told_queued = self._engine.in_flight, self._engine.queued

    def _send(self, line: Line, cached_ratio: float) -> Sent:
        if line.at_ms >= self._next_report_ms:
            self._read_report()
            self._next_report_ms = line.at_ms + REPORT_EVERY_MS
        body_bytes = 160 + round(line.prompt_tokens * 4.2 * self._chance.lognormvariate(0, 0.06))
        tokens = self._tokens.estimate("chat", body_bytes) * (1.0 - cached_ratio)
        load = self._load(tokens, line.at_ms)
        guesses = {name: rival.guess(tokens) for name, rival in self._rivals.items()}
        guesses["edgeforge"] = self._promise(load)
        back_ms = self._rtt_ms() / 2
        self._own += 1
        prompt = self._backlog.add(tokens, line.at_ms)
        law_ms = self._case.rtt_ms + law_outside_ms(
            self._case.speed, self._engine.slowness(line.at_ms), load, self._completion_tokens
        )
        return Sent(
            line.at_ms, line.prompt_tokens, body_bytes, load, back_ms, guesses, prompt, law_ms
        )

    def _load(self, tokens: float, now_ms: float) -> Load:
        in_flight = max(self._own, self._told)
        waiting = max(0, in_flight + 1 - self._case.profile.max_parallel, self._told_queued)
        progress_ms = self._backlog.progress_ms(now_ms)
        return Load(tokens, in_flight, self._backlog.tokens, waiting, progress_ms)

    def _promise(self, load: Load) -> Guess:
        """Return the prediction that placement uses: by profile until the target is known."""
        target, network = self._predictor.of_model("m").get("n"), self._network
        if target is not None and target.known:
            prediction = predict_learned(target, load, network)
        else:
            prediction = predict(
                self._case.profile,
                network,
                rtt_ms_p99=network.rtt_ms,
                in_flight=round(load.in_flight),
                queued=0,
                prompt_tokens=load.prompt_tokens,
                backlog_tokens=load.backlog_tokens,
                progress_ms=load.progress_ms,
            )
        return Guess(prediction.ttft_ms_p50, prediction.ttft_ms_p99)

    def _heard(self, sent: Sent, at_ms: float, ended: bool) -> None:
        if ended:
            self._own -= 1
            return
        sent.took_ms = at_ms - sent.at_ms
        tokens = sent.load.prompt_tokens
        self._backlog.first_token(sent.prompt, at_ms)
        self._read_report()
        for rival in self._rivals.values():
            rival.learn(tokens, sent.took_ms)
        self._tokens.counted("chat", sent.body_bytes, sent.prompt_tokens)
        outcome = Outcome(sent.load, self._case.rtt_ms, sent.took_ms, at_ms)
        self._predictor.learn("n", "m", self._case.profile, outcome)
