"""What each node should hold, decoded from its table and kept in its memory by version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.resources import DesiredReplica, ResourceType
from protos.wire import decode_row

if TYPE_CHECKING:
    from coordinator.fleet.memory import FleetMemory
    from coordinator.store.store import Store


class DesiredRows:
    """Decodes each node's desired table once for each version of it."""

    def __init__(self, store: Store, memory: FleetMemory) -> None:
        self._store = store
        self._memory = memory

    def of(self, node_id: str) -> dict[str, DesiredReplica]:
        """Return what ``node_id`` should hold, by model. The caller must not change it."""
        table = self._store.table(ResourceType.DESIRED, node_id)
        memory = self._memory.of(node_id)
        if memory.desired is not None and memory.desired[0] == table.at:
            return memory.desired[1]
        rows = {
            row.model: row
            for payload in table.rows.values()
            if isinstance(row := decode_row(ResourceType.DESIRED, payload), DesiredReplica)
        }
        memory.desired = (table.at, rows)
        return rows
