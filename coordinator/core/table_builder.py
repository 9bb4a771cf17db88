"""Rows of the routing table that follow from what agents report."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from protos.domain.resources import EngineProfile, Replica, ReplicaState


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What a node says of one model in its engine."""

    model: str
    state: ReplicaState
    generation: int


@dataclass(frozen=True, slots=True)
class ReplicaChanges:
    """What to write and what to remove; ``removes`` are ``(node_id, model)``."""

    upserts: tuple[Replica, ...] = ()
    removes: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.upserts or self.removes)


def replica_changes(
    node_id: str,
    reports: Sequence[ReplicaReport],
    profile: EngineProfile,
    *,
    known_models: Collection[str],
    rows: Mapping[str, Replica],
) -> ReplicaChanges:
    """Return what makes the rows of ``node_id`` those that it has just reported.

    ``rows`` are the present ones by model. A model that the registry does not know gets no row:
    nobody could call it.
    """
    wanted = {
        report.model: Replica(node_id, report.model, report.state, profile, report.generation)
        for report in reports
        if report.model in known_models
    }
    return ReplicaChanges(
        upserts=tuple(replica for model, replica in wanted.items() if rows.get(model) != replica),
        removes=tuple((node_id, model) for model in rows if model not in wanted),
    )
