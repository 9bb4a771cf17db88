"""Which table of a type a node is sent: its own, its zone's, or the one of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.store.zone_tables import zone_scope
from protos.domain.residency import zone_of_pop
from protos.domain.resources import ResourceType

if TYPE_CHECKING:
    from coordinator.store.store import Store


def table_scope(store: Store, resource_type: ResourceType, node_id: str) -> str:
    """Return the scope of the table that ``node_id`` is sent.

    It does not change while a stream is open: a POP that holds nodes keeps its zone.
    """
    if resource_type is ResourceType.DESIRED:
        return node_id
    if resource_type is ResourceType.CREDENTIALS:
        record = store.node_record(node_id)
        return zone_scope("" if record is None else zone_of_pop(store.view().pops, record.pop_id))
    return ""
