"""Is the P99 a P99, and how far above the outcome does it lie? A trace replayed, beside rivals.

    python -m tests.bench.predictor [--trace FILE] [--requests N] [--seed N]

Engines of three speeds with continuous batching get the trace with bursts in it; each drifts by a
quarter, then slows down at once, then is as before. A quarter of the requests come from another
agent, of which the predictor sees only what a target tells with probes and answers. Slow engines
get a part of the requests, several times over. Writes .bench/predictor.json.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from protos.domain.predictor import Outcome, Predictor
from protos.domain.prompt_tokens import PromptTokens
from protos.domain.regimes import Load, Place
from protos.domain.resources import EngineProfile
from tests.bench.rivals import RIVALS, Guess
from tests.support.azure_trace import Line, read_trace, trace_path, with_bursts
from tests.support.simulated_engine import Asked, EngineSpeed, SimulatedEngine

REPORT_EVERY_MS = 1_000.0
STEP_SLOWNESS = 1.7
#: Where, as shares of the run, the engine slows down and recovers.
STEP_UP_AT, STEP_DOWN_AT = 0.55, 0.75
ENOUGH_OUTCOMES = 5_000
#: Outcomes of one stretch when recovery is looked for.
STRETCH = 100


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


@dataclass(slots=True, eq=False)
class Sent:
    """One own request, what was promised for it, and what came of it."""

    at_ms: float
    tokens: int
    body_bytes: int
    load: Load
    there_ms: float
    back_ms: float
    guesses: dict[str, Guess]
    took_ms: float = math.nan
    prompt_tokens: int = 0


@dataclass
class Tally:
    """Everything that happened to one engine."""

    began_ms: float = 0.0
    ended_ms: float = 0.0
    sent: list[Sent] = field(default_factory=list)


def slowness(length_ms: float) -> Callable[[float], float]:
    """Return how slow an engine is over time: drift, a step up, a step down."""

    def at(now_ms: float) -> float:
        drift = 1.0 + 0.25 * math.sin(2 * math.pi * now_ms / 2_400_000.0)
        stepped = STEP_UP_AT <= now_ms / length_ms < STEP_DOWN_AT
        return drift * (STEP_SLOWNESS if stepped else 1.0)

    return at


def arrivals(lines: list[Line], every: int) -> Iterator[Line]:
    """Return each ``every``-th request, ``every`` times over, never the same one twice."""
    length_ms = lines[-1].at_ms + 1_000.0
    for round_ in range(every):
        for line in lines[round_::every]:
            yield Line(round_ * length_ms + line.at_ms, line.prompt_tokens, line.completion_tokens)


class Replay:
    """One engine, one agent that learns, and its rivals."""

    def __init__(self, case: Case, lines: list[Line], seed: int) -> None:
        self._case = case
        self._lines = list(arrivals(lines, case.every))
        self._length_ms = self._lines[-1].at_ms
        self._chance = random.Random(seed)
        self._engine = SimulatedEngine(
            case.speed, random.Random(seed + 1), slowness(self._length_ms)
        )
        self._predictor = Predictor()
        self._tokens = PromptTokens()
        self._rivals = {name: make() for name, make in RIVALS.items()}
        self._events: list[tuple[float, int, Asked | Sent, bool]] = []
        self._order = 0
        self._backlog_tokens = 0
        self._own = 0
        self._pending: dict[float, None] = {}
        self._last_first_ms = 0.0
        self._told = 0
        self._told_queued = 0
        self._next_report_ms = 0.0

    def run(self) -> Tally:
        tally = Tally(self._length_ms * STEP_UP_AT, self._length_ms * STEP_DOWN_AT)
        for line in self._lines:
            self._catch_up(line.at_ms)
            asked, at_ms = Asked(line.prompt_tokens, line.completion_tokens), line.at_ms
            if self._chance.random() < self._case.own_share:
                asked.note = sent = self._send(line)
                tally.sent.append(sent)
                at_ms += sent.there_ms
            self._push(at_ms, asked)
        self._catch_up(math.inf)
        tally.sent = [sent for sent in tally.sent if not math.isnan(sent.took_ms)]
        return tally

    def _push(self, at_ms: float, what: Asked | Sent, ended: bool = False) -> None:
        self._order += 1
        heapq.heappush(self._events, (at_ms, self._order, what, ended))

    def _catch_up(self, now_ms: float) -> None:
        """Let everything happen that happens before ``now_ms``, in order."""
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
                engine.submit(what, at_ms)
            else:
                self._heard(what, at_ms, ended)

    def _rtt_ms(self) -> float:
        spike = 1.6 if self._chance.random() < 0.004 else 1.0
        return self._case.rtt_ms * self._chance.lognormvariate(0.0, 0.03) * spike

    def _send(self, line: Line) -> Sent:
        if line.at_ms >= self._next_report_ms:
            self._told, self._told_queued = self._engine.in_flight, self._engine.queued
            self._next_report_ms = line.at_ms + REPORT_EVERY_MS
        body_bytes = 160 + round(line.prompt_tokens * 4.2 * self._chance.lognormvariate(0, 0.06))
        tokens = self._tokens.estimate("chat", body_bytes)
        in_flight = max(self._own, self._told)
        waiting = max(0, in_flight + 1 - self._case.profile.max_parallel, self._told_queued)
        progress_ms = 0.0
        if self._pending:
            progress_ms = line.at_ms - max(self._last_first_ms, next(iter(self._pending)))
        load = Load(tokens, in_flight, self._backlog_tokens, waiting, progress_ms)
        guesses = {name: rival.guess(tokens) for name, rival in self._rivals.items()}
        network_ms = self._case.rtt_ms
        guesses["edgeforge"] = self._learned(load, network_ms)
        there_ms, back_ms = self._rtt_ms() / 2, self._rtt_ms() / 2
        sent = Sent(line.at_ms, tokens, body_bytes, load, there_ms, back_ms, guesses)
        sent.prompt_tokens = line.prompt_tokens
        self._own += 1
        self._pending[line.at_ms] = None
        self._backlog_tokens += tokens
        return sent

    def _learned(self, load: Load, network_ms: float) -> Guess:
        target = self._predictor.of_model("m").get("n")
        x = load.features()
        if target is None:
            profile = self._case.profile
            p99 = profile.first_token_ms_p99 + load.prompt_tokens * profile.prefill_ms_per_token
            return Guess(network_ms + p99, network_ms + p99)
        regime = target.regimes[load.place]
        network_ms -= load.head_start_ms
        return Guess(
            network_ms + sum(a * b for a, b in zip(regime.p50, x, strict=True)),
            network_ms + sum(a * b for a, b in zip(regime.p99, x, strict=True)),
        )

    def _heard(self, sent: Sent, at_ms: float, ended: bool) -> None:
        if ended:
            self._own -= 1
            return
        sent.took_ms = at_ms - sent.at_ms
        self._backlog_tokens -= sent.tokens
        self._pending.pop(sent.at_ms, None)
        self._last_first_ms = at_ms
        self._told, self._told_queued = self._engine.in_flight, self._engine.queued
        for rival in self._rivals.values():
            rival.learn(sent.tokens, sent.took_ms)
        self._tokens.counted("chat", sent.body_bytes, sent.prompt_tokens)
        outcome = Outcome(sent.load, self._case.rtt_ms, sent.took_ms, at_ms)
        self._predictor.learn("n", "m", self._case.profile, outcome)


def interval(misses: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a coverage. Source: Wilson, 1927."""
    z, share = 1.96, 1.0 - misses / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count)
    half *= math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return middle - half, middle + half


def figures(sent: list[Sent], who: str) -> dict[str, float]:
    guesses = [each.guesses[who] for each in sent]
    pairs = list(zip(sent, guesses, strict=True))
    misses = sum(each.took_ms > guess.ttft_ms_p99 for each, guess in pairs)
    excess = [guess.ttft_ms_p99 - each.took_ms for each, guess in pairs]
    error = sum(abs(guess.ttft_ms_p50 - each.took_ms) for each, guess in pairs)
    low, high = interval(misses, len(sent))
    return {
        "outcomes": len(sent),
        "coverage_p99": round(1.0 - misses / len(sent), 4),
        "coverage_low": round(low, 4),
        "coverage_high": round(high, 4),
        "excess_ms_p50": round(median(excess), 1),
        "mae_ms": round(error / len(sent), 1),
        "ttft_ms_p50": round(median(each.took_ms for each in sent), 1),
    }


def recovery_s(sent: list[Sent], who: str, step_ms: float, until_ms: float) -> float | None:
    """Return how long after ``step_ms`` the promises are as good as before it.

    The first moment from which a stretch of outcomes is covered to 97 %, with relative excess and
    error of the median at most half again those before. None: not until ``until_ms``.
    """

    def excess(stretch: list[Sent]) -> float:
        return median(each.guesses[who].ttft_ms_p99 / each.took_ms for each in stretch) - 1.0

    def error(stretch: list[Sent]) -> float:
        return median(abs(each.guesses[who].ttft_ms_p50 / each.took_ms - 1.0) for each in stretch)

    before = [each for each in sent if each.at_ms < step_ms][STRETCH:]
    after = [each for each in sent if step_ms <= each.at_ms < until_ms]
    most_excess, most_error = 1.5 * max(0.1, excess(before)), 1.5 * max(0.05, error(before))
    for start in range(len(after) - STRETCH):
        stretch = after[start : start + STRETCH]
        missed = sum(each.took_ms > each.guesses[who].ttft_ms_p99 for each in stretch)
        if (
            missed <= 0.03 * STRETCH
            and excess(stretch) <= most_excess
            and error(stretch) <= most_error
        ):
            return round((after[start].at_ms - step_ms) / 1_000.0, 1)
    return None


def measure(case: Case, lines: list[Line], seed: int) -> dict[str, dict[str, dict[str, object]]]:
    replay = Replay(case, lines, seed)
    tally = replay.run()
    sent = tally.sent
    regimes = {
        **{
            f"{case.name}/{place.name.lower()}": [each for each in sent if each.load.place is place]
            for place in Place
        },
        f"{case.name}/all": sent,
    }
    result: dict[str, dict[str, dict[str, object]]] = {}
    for name, part in regimes.items():
        if not part:
            continue
        result[name] = {who: dict(figures(part, who)) for who in ("edgeforge", *RIVALS)}
    for who, row in result[f"{case.name}/all"].items():
        up, down = tally.began_ms, tally.ended_ms
        row["recovery_s"] = recovery_s(sent, who, up, down)
        row["recovery_down_s"] = recovery_s(sent, who, down, math.inf)
    result[f"{case.name}/all"]["edgeforge"]["changes"] = replay._predictor.of_model("m")[
        "n"
    ].changes
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path, default=None)
    parser.add_argument("--requests", type=int, default=None)
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    lines = read_trace(options.trace or trace_path(), options.requests)
    lines = with_bursts(lines, every_ms=600_000.0, lasting_ms=20_000.0, factor=4.0)
    result: dict[str, object] = {}
    for case in CASES:
        for regime, rows in measure(case, lines, options.seed).items():
            result[regime] = rows
            show(regime, rows)
    path = Path(".bench/predictor.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1))


def show(regime: str, rows: dict[str, dict[str, object]]) -> None:
    print(f"\n{regime}: {rows['edgeforge']['outcomes']} outcomes")
    for who, row in rows.items():
        words = (f"{name} {value}" for name, value in row.items() if name != "outcomes")
        print(f"  {who:17}", "  ".join(words))


if __name__ == "__main__":
    main()
