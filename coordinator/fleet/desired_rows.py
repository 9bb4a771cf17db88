"""What each node should hold, decoded from its table and kept in its memory by version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.holding import may_hold
from protos.domain.resources import DesiredAdapter, DesiredReplica, ResourceType
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

    def holds_file(self, node_id: str, sha256: bytes) -> bool:
        """Return whether ``node_id`` should or may hold a model or adapter with this file.

        A look-up for what it should hold: pulls ask for each piece of a file.
        """
        return sha256 in self._desired_files(node_id) or self._may_hold_file(node_id, sha256)

    def _desired_files(self, node_id: str) -> frozenset[bytes]:
        table = self._store.table(ResourceType.DESIRED, node_id)
        memory = self._memory.of(node_id)
        if memory.desired_files is None or memory.desired_files[0] != table.at:
            rows = [decode_row(ResourceType.DESIRED, payload) for payload in table.rows.values()]
            held = [row for row in rows if isinstance(row, DesiredReplica | DesiredAdapter)]
            digests = frozenset(file.sha256 for row in held for file in row.files)
            memory.desired_files = (table.at, digests)
        return memory.desired_files[1]

    def _may_hold_file(self, node_id: str, sha256: bytes) -> bool:
        view = self._store.view()
        return any(
            any(file.sha256 == sha256 for file in files) and may_hold(view, node_id, name)
            for name, files in self._store.manifests().items()
        )
