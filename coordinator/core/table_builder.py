"""Rows of the routing table that follow from what agents report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    profiles: Mapping[str, EngineProfile],
    rows: Mapping[str, Replica],
) -> ReplicaChanges:
    """Return the changes that make the rows of ``node_id`` match its latest report.

    ``profiles`` are what its engine is expected to do with each model, ``rows`` the present ones
    by model. A model without a profile is not in the registry and gets no row: no deployment can
    name it.
    """
    wanted = {
        report.model: Replica(node_id, report.model, report.state, profile, report.generation)
        for report in reports
        if (profile := profiles.get(report.model)) is not None
    }
    return ReplicaChanges(
        upserts=tuple(replica for model, replica in wanted.items() if rows.get(model) != replica),
        removes=tuple((node_id, model) for model in rows if model not in wanted),
    )
