"""Rows of the routing table that follow from what agents report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coordinator.core.plan_input import replica_key
from protos.domain.resources import EngineProfile, Replica, ReplicaState, Residency


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What a node reports about one model, or one adapter of it: in its engine, or loadable."""

    model: str
    state: ReplicaState
    generation: int
    adapter: str = ""
    residency: Residency = Residency.DEVICE

    @property
    def key(self) -> str:
        """Names it among what the node holds."""
        return replica_key(self.model, self.adapter)


@dataclass(frozen=True, slots=True)
class ReplicaChanges:
    """Rows to write and to remove; ``removes`` are ``(node_id, key)``."""

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
    by model or ``model+adapter``. A model without a profile is not in the registry and gets no
    row: no deployment can name it.
    """
    wanted = {
        report.key: Replica(
            node_id,
            report.model,
            report.state,
            profile,
            report.generation,
            report.adapter,
            report.residency,
        )
        for report in reports
        if (profile := profiles.get(report.model)) is not None
    }
    return ReplicaChanges(
        upserts=tuple(replica for key, replica in wanted.items() if rows.get(key) != replica),
        removes=tuple((node_id, key) for key in rows if key not in wanted),
    )
