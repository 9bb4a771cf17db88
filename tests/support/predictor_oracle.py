"""An oracle of first tokens: it knows the simulated engine's law, but not the noise to come.

Its law is a time without noise. Its P99 is the law times the factor that 99 of 100 outcomes lay
under, found in hindsight among outcomes of the same regime and about the same law: no predictor
that has to learn the factor as it goes can be expected to do better.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from protos.domain.regimes import Place

if TYPE_CHECKING:
    from protos.domain.regimes import Load
    from tests.support.simulated_engine import Asked, EngineSpeed, SimulatedEngine

#: Outcomes of about the same law that share a factor, at least, and the most such groups.
_GROUP_OUTCOMES, _MOST_GROUPS = 500, 20
LEVEL = 0.99


def law_outside_ms(
    speed: EngineSpeed, slowness: float, load: Load, completion_tokens: float
) -> float:
    """Return the law's first token for what an agent knows, ``Load``.

    ``completion_tokens`` are those of a usual answer.
    """
    tokens = load.prompt_tokens + load.backlog_tokens
    if load.place is Place.FULL:
        places = speed.max_parallel
        steps = load.waiting * completion_tokens / places
        step_ms = speed.step_ms + speed.decode_ms_per_request * places
        return slowness * (steps * step_ms + speed.prefill_ms_per_token * tokens + step_ms)
    behind_ms = slowness * _prefill_ms(speed, tokens, load.in_flight)
    if load.place is Place.FREE:
        return behind_ms
    free_ms = slowness * _prefill_ms(speed, load.prompt_tokens, load.in_flight)
    return max(free_ms, behind_ms - load.progress_ms)


def _prefill_ms(speed: EngineSpeed, tokens: float, decoding: float) -> float:
    """Return half a step that is running, and those that take ``tokens`` in."""
    steps = math.ceil(tokens / max(1.0, speed.step_tokens - decoding))
    step_ms = speed.step_ms + speed.decode_ms_per_request * decoding
    running_ms = step_ms / 2 if decoding >= 1.0 else 0.0
    return running_ms + steps * step_ms + speed.prefill_ms_per_token * tokens


def law_inside_ms(engine: SimulatedEngine, asked: Asked, now_ms: float) -> float:
    """Return the law's first token of ``asked``, submitted now, for who sees into the engine.

    Every prompt and answer in it is known to the token, whoever sent it. The engine's steps are
    run without noise; while every place decodes, the steps up to the next end are one.
    """
    speed = engine.speed
    waiting, prefilling, ends = engine.inside()
    waiting.append((max(1, asked.prompt_tokens), asked.completion_tokens))
    mine = len(waiting) + len(prefilling)
    at_ms, step = engine.next_step_ms, 0
    if math.isinf(at_ms):
        at_ms = now_ms
    at_ms = max(at_ms, now_ms)
    while True:
        while waiting and len(prefilling) + len(ends) < speed.max_parallel:
            prefilling.append(waiting.popleft())
        decoding = len(ends)
        step_ms = speed.step_ms + speed.decode_ms_per_request * decoding
        slowness = engine.slowness(at_ms)
        if not prefilling:
            steps = max(1, ends[0] - step)
            at_ms += slowness * steps * step_ms
            step += steps
        else:
            taken, first = _take_in(prefilling, max(1, speed.step_tokens - decoding))
            at_ms += slowness * (step_ms + speed.prefill_ms_per_token * taken)
            step += 1
            mine -= len(first)
            if mine <= 0:
                return at_ms - now_ms
            for completion in first:
                heapq.heappush(ends, step + max(0, completion - 1))
        while ends and ends[0] <= step:
            heapq.heappop(ends)


def _take_in(prefilling: deque[tuple[int, int]], room: int) -> tuple[int, list[int]]:
    """Take in at most ``room`` tokens; return them, and the answers' lengths that begin."""
    taken, first = 0, []
    while prefilling and taken < room:
        left, completion = prefilling[0]
        part = min(left, room - taken)
        taken += part
        if part < left:
            prefilling[0] = (left - part, completion)
            break
        prefilling.popleft()
        first.append(completion)
    return taken, first


def p99s_in_hindsight(laws_ms: Sequence[float], took_ms: Sequence[float]) -> list[float]:
    """Return the oracle's P99 of each outcome of one regime."""
    count = len(laws_ms)
    order = sorted(range(count), key=lambda index: laws_ms[index])
    groups = min(_MOST_GROUPS, max(1, count // _GROUP_OUTCOMES))
    p99s = [0.0] * count
    for group in range(groups):
        members = order[group * count // groups : (group + 1) * count // groups]
        ratios = sorted(took_ms[index] / laws_ms[index] for index in members)
        factor = ratios[min(len(ratios) - 1, math.ceil(LEVEL * len(ratios)) - 1)]
        for index in members:
            p99s[index] = factor * laws_ms[index]
    return p99s
