"""The steps from what a node holds to what it should hold. Pure.

Hot models get the engines, in the order of their names; what is to be on disk is pulled; the rest
comes when a request asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agent.core.engine_choice import ChoicePolicy, choose
from protos.domain.resources import (
    DesiredAdapter,
    DesiredReplica,
    Hold,
    ModelSource,
    ReplicaState,
    Residency,
)

if TYPE_CHECKING:
    from agent.core.engine_choice import EngineView


#: An engine whose model is desired no longer ends its requests when none has ended for so long.
DRAIN_MS = 30_000.0


@dataclass(frozen=True, slots=True)
class Pull:
    """Pull the files of a model or an adapter to this node."""

    desired: DesiredReplica | DesiredAdapter


@dataclass(frozen=True, slots=True)
class MakeResident:
    """Put a model, or an adapter of it, whose files are complete into an engine."""

    model: str
    adapter: str = ""


@dataclass(frozen=True, slots=True)
class StopEngine:
    """End an engine whose model is no longer desired."""

    index: int


@dataclass(frozen=True, slots=True)
class HeldReplica:
    """One line of the report to the coordinator; ``adapter`` is empty for the model itself."""

    model: str
    state: ReplicaState
    generation: int
    error: str
    adapter: str = ""
    residency: Residency = Residency.DEVICE


Step = Pull | MakeResident | StopEngine


@dataclass(frozen=True, slots=True)
class Held:
    """What this node has; all but the engines are names of models and adapters."""

    #: On disk and verified.
    whole: frozenset[str] = frozenset()
    pulling: frozenset[str] = frozenset()
    engines: tuple[EngineView, ...] = ()
    #: Adapters that requests may use, of any engine.
    active: frozenset[str] = frozenset()
    #: Being put into an engine.
    loading: frozenset[str] = frozenset()
    #: Failed, and not tried again yet.
    resting: frozenset[str] = frozenset()
    #: model -> adapters that its engine takes without another one's leaving.
    free_slots: Mapping[str, int] = field(default_factory=dict)
    #: model -> since when it is to be hot.
    hot_since_ms: Mapping[str, float] = field(default_factory=dict)


def next_steps(
    desired: Mapping[str, DesiredReplica],
    adapters: Mapping[str, DesiredAdapter],
    held: Held,
    *,
    max_engines: int,
    policy: ChoicePolicy,
    now_mono_ms: float,
) -> list[Step]:
    """Return the steps to do now; called again after each change."""
    managed = {
        name: desired[name]
        for name in sorted(desired)
        if desired[name].source is ModelSource.MANAGED
    }
    steps: list[Step] = []
    objects: list[DesiredReplica | DesiredAdapter] = list(managed.values())
    for one in (*objects, *(adapters[name] for name in sorted(adapters))):
        name = name_of(one)
        if one.hold is Hold.ON_DEMAND or name in held.whole:
            continue
        if name not in held.pulling and (isinstance(one, DesiredReplica) or one.model in managed):
            steps.append(Pull(one))
    taken = _hot_models(managed, held, steps, max_engines, policy, now_mono_ms)
    steps += [
        StopEngine(one.index)
        for one in held.engines
        if one.model not in managed and one.index not in taken and _is_drained(one, now_mono_ms)
    ]
    _hot_adapters(adapters, held, steps)
    return steps


def _is_drained(engine: EngineView, now_mono_ms: float) -> bool:
    """Return whether ending an engine ends no request, or only such as take too long.

    One whose model is desired no longer gets no new requests.
    """
    return not engine.in_flight or now_mono_ms - engine.last_used_ms >= DRAIN_MS


def name_of(held: DesiredReplica | DesiredAdapter) -> str:
    """Return the name of a model or an adapter."""
    return held.model if isinstance(held, DesiredReplica) else held.adapter


def _hot_models(
    managed: Mapping[str, DesiredReplica],
    held: Held,
    steps: list[Step],
    max_engines: int,
    policy: ChoicePolicy,
    now_mono_ms: float,
) -> set[int]:
    """Append a step for each hot model that gets an engine now; return the engines taken."""
    resident = {one.model for one in held.engines}
    # One that is being put into an engine has chosen its own already.
    waiting = held.loading | held.resting
    taken: set[int] = set()
    if any(name in held.loading for name in managed):
        return taken
    for name, one in managed.items():
        if one.hold is not Hold.HOT or name in resident or name in waiting:
            continue
        if name not in held.whole:
            continue
        since_ms = held.hot_since_ms.get(name, -math.inf)
        views = [as_hot_sees(view, managed, since_ms) for view in held.engines]
        choice = choose(
            [view for view in views if view.index not in taken],
            swap_key=one.swap_key,
            runtime=one.runtime.name if one.runtime is not None else "",
            max_engines=max_engines - len(taken),
            policy=policy,
            now_mono_ms=now_mono_ms,
        )
        if choice is not None and not choice.wait_ms:
            steps.append(MakeResident(name))
            taken.add(choice.index)
            # One at a time: the next is chosen when this one has its engine.
            break
    return taken


def as_hot_sees(
    view: EngineView, managed: Mapping[str, DesiredReplica], hot_since_ms: float
) -> EngineView:
    """Return ``view`` as a model sees it that is to be hot since ``hot_since_ms``.

    What is hot is not taken, and what requests have put there since then not while it is used.
    What was there before gives way as soon as it may, used or not: a new version would otherwise
    never get the engine of a busy one.
    """
    one = managed.get(view.model)
    if one is None:
        return view
    # A hot model that took another's engine would give it back as soon, and so on for ever.
    never = one.hold is Hold.HOT
    if not never and view.resident_since_ms < hot_since_ms:
        return view
    return replace(view, hot=True, in_flight=max(view.in_flight, int(never)))


def _hot_adapters(adapters: Mapping[str, DesiredAdapter], held: Held, steps: list[Step]) -> None:
    """Append a step for each hot adapter that has a free slot beside its base."""
    room = dict(held.free_slots)
    settled = {one.model for one in held.engines if one.settled}
    for name in sorted(adapters):
        one = adapters[name]
        if one.hold is not Hold.HOT or one.model not in settled or name not in held.whole:
            continue
        if name in held.active | held.loading | held.resting:
            continue
        if room.get(one.model, 0) > 0:
            room[one.model] -= 1
            steps.append(MakeResident(one.model, name))


def loadable_names(
    desired: Mapping[str, DesiredReplica], adapters: Mapping[str, DesiredAdapter]
) -> Sequence[tuple[str, str]]:
    """Return (model, adapter) of all that this node may load; adapters of missing bases are not."""
    models = [(name, "") for name, one in desired.items() if one.source is ModelSource.MANAGED]
    known = {name for name, _ in models}
    return models + [(one.model, name) for name, one in adapters.items() if one.model in known]
