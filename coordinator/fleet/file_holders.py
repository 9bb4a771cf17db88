"""Which files a node may fetch: those of what it should hold, or may hold by its deployments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.holding import is_outside, may_hold, names_held
from protos.domain.resources import DesiredAdapter, DesiredReplica, ResourceType
from protos.wire import decode_row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coordinator.store.store import Store
    from protos.domain.routing_table import TableVersion

#: Nodes whose files are remembered; those that asked last.
_MAX_NODES = 8_192


class FileHolders:
    """Decodes each node's desired table once for each version: pulls ask for piece after piece."""

    def __init__(self, store: Store) -> None:
        self._store = store
        #: node -> version of its table, and by digest the models and adapters in it
        self._desired: dict[str, tuple[TableVersion, dict[bytes, tuple[str, ...]]]] = {}

    def may_fetch(self, node_id: str, sha256: bytes) -> bool:
        """Return whether ``node_id`` should or may hold a model or adapter with this file."""
        view = self._store.view()
        # zones hold at once, before the plan has followed them
        return any(
            not is_outside(view, node_id, name)
            for name in self._desired_files(node_id).get(sha256, ())
        ) or self._may_hold_file(node_id, sha256)

    def _desired_files(self, node_id: str) -> Mapping[bytes, Sequence[str]]:
        table = self._store.table(ResourceType.DESIRED, node_id)
        known = self._desired.get(node_id)
        if known is not None and known[0] == table.at:
            return known[1]
        rows = [decode_row(ResourceType.DESIRED, payload) for payload in table.rows.values()]
        digests: dict[bytes, tuple[str, ...]] = {}
        for row in rows:
            if isinstance(row, DesiredReplica | DesiredAdapter):
                name = row.adapter if isinstance(row, DesiredAdapter) else row.model
                for file in row.files:
                    digests[file.sha256] = (*digests.get(file.sha256, ()), name)
        self._desired.pop(node_id, None)
        self._desired[node_id] = (table.at, digests)
        if len(self._desired) > _MAX_NODES:
            del self._desired[next(iter(self._desired))]
        return digests

    def _may_hold_file(self, node_id: str, sha256: bytes) -> bool:
        view = self._store.view()
        return any(
            may_hold(view, node_id, name)
            for name in names_held(view)
            if any(file.sha256 == sha256 for file in self._store.manifest(name))
        )
