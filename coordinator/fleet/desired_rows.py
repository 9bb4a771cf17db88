"""What each node should hold, decoded from its table and kept in its memory by version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.core.planned_rows import key_of_row
from protos.domain.resources import DesiredAdapter, DesiredReplica, ResourceType
from protos.wire import decode_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordinator.core.planned_rows import Desired
    from coordinator.fleet.memory import FleetMemory
    from coordinator.store.store import Store


class DesiredRows:
    """Decodes each node's desired table once for each version of it."""

    def __init__(self, store: Store, memory: FleetMemory) -> None:
        self._store = store
        self._memory = memory

    def of(self, node_id: str) -> dict[str, Desired]:
        """Return what ``node_id`` should hold, by model or ``model+adapter``.

        The caller must not change it.
        """
        table = self._store.table(ResourceType.DESIRED, node_id)
        memory = self._memory.of(node_id)
        if memory.desired is not None and memory.desired[0] == table.at:
            return memory.desired[1]
        decoded = (decode_row(ResourceType.DESIRED, one) for one in table.rows.values())
        rows = {
            key_of_row(row): row
            for row in decoded
            if isinstance(row, DesiredReplica | DesiredAdapter)
        }
        memory.desired = (table.at, rows)
        return rows

    def written(self, node_id: str, rows: Mapping[str, Desired]) -> None:
        """Keep the rows that were just written as they were made: equal objects stay shared."""
        table = self._store.table(ResourceType.DESIRED, node_id)
        if len(table.rows) == len(rows):
            self._memory.of(node_id).desired = (table.at, dict(rows))
