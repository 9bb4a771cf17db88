"""Which engine of this host takes a model that is in none, and by which path. Pure.

A swap is preferred to a start: it keeps a warm process. A start takes a free place before it ends
an engine. An engine gives its model up only if the policy's guard allows it, so that two models
asked for in turn do not end each other's residence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.cold_start import ColdPath


@dataclass(frozen=True, slots=True)
class ChoicePolicy:
    """When an engine may be taken from its model."""

    #: A model that was put into an engine stays for so long.
    min_residence_ms: float = 5_000.0
    #: A hot model, which is to be resident, gives its engine up only after so long without use.
    hot_idle_ms: float = 30_000.0
    #: Requests wait for so long for an engine that is to keep its model, and for a slot.
    max_wait_ms: float = 10_000.0


@dataclass(frozen=True, slots=True)
class EngineView:
    """One engine: its model, since when, and its use."""

    index: int
    model: str
    swap_key: bytes
    hot: bool
    #: It serves, and is neither starting nor in a swap.
    settled: bool
    in_flight: int
    resident_since_ms: float
    last_used_ms: float
    #: Its own runtime; engines are swapped between models of equal runtimes only.
    runtime: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """Put the model into engine ``index`` by ``path``; a start in an engine ends the one there.

    ``wait_ms``: the engine keeps its model for so long, if nothing else happens.
    """

    path: ColdPath
    index: int
    wait_ms: float = 0.0


def choose(
    engines: Sequence[EngineView],
    *,
    swap_key: bytes,
    runtime: str,
    max_engines: int,
    policy: ChoicePolicy,
    now_mono_ms: float,
) -> Choice | None:
    """Return where a model that is in no engine goes; None: every engine is to keep its own.

    What can begin now comes before what has to wait, then a swap before a start. Deterministic: of
    several engines the least recently used, then the lowest index.
    """
    by_age = sorted(engines, key=lambda one: (one.in_flight > 0, one.last_used_ms, one.index))
    waits_ms = {one.index: keeps_for_ms(one, policy, now_mono_ms) for one in by_age}
    possible: list[Choice] = []
    for one in by_age:
        if swap_key and one.swap_key == swap_key and one.runtime == runtime:
            # What is in a swap now has ended it by then.
            if not (one.settled or waits_ms[one.index]):
                continue
            possible.append(Choice(ColdPath.SWAP, one.index, waits_ms[one.index]))
    if len(engines) < max_engines:
        taken = {one.index for one in engines}
        index = next(at for at in range(max_engines) if at not in taken)
        possible.append(Choice(ColdPath.ENGINE, index))
    # Ending a process ends its requests, so only an idle one is ended.
    idle = [one.index for one in by_age if one.in_flight == 0]
    possible += [Choice(ColdPath.ENGINE, index, waits_ms[index]) for index in idle]
    possible = [one for one in possible if one.wait_ms <= policy.max_wait_ms]
    now = [one for one in possible if not one.wait_ms]
    # A start takes longer than the wait for any swap.
    return min(now or possible, key=_cheapest, default=None)


def _cheapest(choice: Choice) -> tuple[bool, float]:
    return choice.path is ColdPath.ENGINE, choice.wait_ms


def keeps_for_ms(engine: EngineView, policy: ChoicePolicy, now_mono_ms: float) -> float:
    """Return for how long ``engine`` is not to be taken from its model; infinite: unknown."""
    wait_ms = policy.min_residence_ms - (now_mono_ms - engine.resident_since_ms)
    if engine.hot:
        if engine.in_flight:
            return math.inf
        wait_ms = max(wait_ms, policy.hot_idle_ms - (now_mono_ms - engine.last_used_ms))
    return max(0.0, wait_ms)
