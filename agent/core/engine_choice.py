"""Which engine of this host takes a model that is in none, and by which path. Pure.

A swap is preferred to a start: it keeps a warm process. A start takes a free place before it ends
an engine. An engine gives its model up only if the policy's guard allows it, so that two models
asked for in turn do not end each other's residence.
"""

from __future__ import annotations

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
    """Put the model into engine ``index`` by ``path``; a start in an engine ends the one there."""

    path: ColdPath
    index: int


def choose(
    engines: Sequence[EngineView],
    *,
    swap_key: bytes,
    runtime: str,
    max_engines: int,
    policy: ChoicePolicy,
    now_mono_ms: float,
) -> Choice | None:
    """Return where a model that is in no engine goes now; None: every engine is to keep its own.

    Deterministic: of several engines the least recently used, then the lowest index.
    """
    by_age = sorted(engines, key=lambda one: (one.in_flight > 0, one.last_used_ms, one.index))
    free = [one for one in by_age if may_give_up(one, policy, now_mono_ms)]
    if swap_key:
        for one in free:
            if one.settled and one.swap_key == swap_key and one.runtime == runtime:
                return Choice(ColdPath.SWAP, one.index)
    if len(engines) < max_engines:
        taken = {one.index for one in engines}
        return Choice(ColdPath.ENGINE, next(at for at in range(max_engines) if at not in taken))
    # Ending a process ends its requests, so only an idle one is ended.
    for one in free:
        if one.in_flight == 0:
            return Choice(ColdPath.ENGINE, one.index)
    return None


def may_give_up(engine: EngineView, policy: ChoicePolicy, now_mono_ms: float) -> bool:
    """Return whether ``engine`` may be taken from its model."""
    if now_mono_ms - engine.resident_since_ms < policy.min_residence_ms:
        return False
    if not engine.hot:
        return True
    idle_ms = now_mono_ms - engine.last_used_ms
    return engine.in_flight == 0 and idle_ms >= policy.hot_idle_ms
