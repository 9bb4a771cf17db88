"""The steps from the models that a node holds to those it should hold. Pure.

A node has one engine with one model: of several desired models it serves the first by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protos.domain.resources import DesiredReplica, ModelSource, ReplicaState


@dataclass(frozen=True, slots=True)
class Pull:
    """Pull a model's files to this node."""

    desired: DesiredReplica


@dataclass(frozen=True, slots=True)
class StartEngine:
    """Start an engine with a model whose files are complete."""

    desired: DesiredReplica


@dataclass(frozen=True, slots=True)
class StopEngine:
    """Stop the engine: its model is no longer desired, or another one is."""

    model: str


@dataclass(frozen=True, slots=True)
class HeldReplica:
    """One line of the report to the coordinator."""

    model: str
    state: ReplicaState
    generation: int
    error: str


Step = Pull | StartEngine | StopEngine


@dataclass(frozen=True, slots=True)
class Held:
    """What this node has. ``engine_model`` is None while the agent runs no engine."""

    whole: frozenset[str]
    pulling: frozenset[str]
    engine_model: str | None


def wanted_model(desired: Mapping[str, DesiredReplica]) -> DesiredReplica | None:
    """Return the managed model that this node's engine should serve, if any."""
    managed = sorted(name for name, one in desired.items() if one.source is ModelSource.MANAGED)
    return desired[managed[0]] if managed else None


def next_steps(desired: Mapping[str, DesiredReplica], held: Held) -> list[Step]:
    """Return the steps to do now; called again after each change."""
    wanted = wanted_model(desired)
    steps: list[Step] = []
    if held.engine_model is not None and (wanted is None or wanted.model != held.engine_model):
        steps.append(StopEngine(held.engine_model))
    if wanted is None:
        return steps
    if wanted.model not in held.whole:
        if wanted.model not in held.pulling:
            steps.append(Pull(wanted))
    elif held.engine_model is None:
        steps.append(StartEngine(wanted))
    return steps
