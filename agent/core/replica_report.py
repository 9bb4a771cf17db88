"""What a node reports of each model and adapter that it is to hold, or may load. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.core.engine_status import EngineState
from agent.core.reconcile import HeldReplica
from protos.domain.resources import (
    DesiredAdapter,
    DesiredReplica,
    Hold,
    ReplicaState,
    Residency,
)

REPLICA_STATE = {
    EngineState.ABSENT: ReplicaState.STOPPING,
    EngineState.STARTING: ReplicaState.STARTING,
    EngineState.WARMING: ReplicaState.STARTING,
    EngineState.READY: ReplicaState.READY,
    EngineState.STOPPING: ReplicaState.STOPPING,
    EngineState.BACKOFF: ReplicaState.STARTING,
    EngineState.FAILED: ReplicaState.FAILED,
}


@dataclass(frozen=True, slots=True)
class InEngine:
    """The engine that a model or an adapter is in."""

    state: EngineState
    generation: int
    error: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What the report is made from; names are of models and adapters."""

    #: Only what an engine holds, or is being started with.
    in_engine: Mapping[str, InEngine]
    residency: Callable[[DesiredReplica | DesiredAdapter], Residency]
    errors: Mapping[str, str]
    #: Refused for good: asking again changes nothing.
    refused: frozenset[str]
    #: Being put into an engine.
    loading: frozenset[str]


def report_one(one: DesiredReplica | DesiredAdapter, facts: Facts) -> HeldReplica:
    """Return the line of ``one``."""
    if isinstance(one, DesiredReplica):
        model, adapter, name = one.model, "", one.model
    else:
        model, adapter, name = one.model, one.adapter, one.adapter
    error = facts.errors.get(name, "")
    there = facts.in_engine.get(name)
    if there is not None:
        state = REPLICA_STATE[there.state]
        return HeldReplica(model, state, there.generation, there.error or error, adapter)
    residency = facts.residency(one)
    if name in facts.refused:
        state = ReplicaState.FAILED
    elif name in facts.loading and one.hold is Hold.HOT and residency is Residency.DISK:
        state = ReplicaState.STARTING
    elif residency is not Residency.DISK and one.hold is not Hold.ON_DEMAND:
        state = ReplicaState.PULLING
    elif one.hold is Hold.HOT and error:
        state = ReplicaState.FAILED
    else:
        # A hot one too, while other hot ones have every engine or slot: a request may load it.
        state = ReplicaState.COLD
    return HeldReplica(model, state, 0, error, adapter, residency)
