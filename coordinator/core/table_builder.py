"""Rows of the routing table that follow from what agents report."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from protos.domain.resources import EngineProfile, Replica, ReplicaState


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What a node reports about one model in its engine."""

    model: str
    state: ReplicaState
    generation: int


@dataclass(frozen=True, slots=True)
class ReplicaChanges:
    """Rows to write and to remove; ``removes`` are ``(node_id, model)``."""

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
    """Return the changes that make the rows of ``node_id`` match its latest report.

    ``rows`` are the present ones by model. A model that is not in the registry gets no row: no
    deployment can name it.
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
