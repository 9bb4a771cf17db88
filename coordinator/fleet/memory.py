"""What the coordinator remembers of each node beside its rows: one object, forgotten at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.core.claims import NodeClaims

if TYPE_CHECKING:
    from coordinator.core.node_orders import NodeCondition
    from coordinator.core.table_builder import ReplicaReport
    from coordinator.core.twins import TwinWatch
    from coordinator.fleet.live import ReadReport
    from coordinator.store.records import NodeRegistration
    from protos.domain.resources import DesiredReplica
    from protos.domain.routing_table import TableVersion


@dataclass(slots=True)
class NodeMemory:
    """One node since the coordinator started; each field is None until it is known."""

    #: Reads its last status, and when that came.
    read_report: ReadReport | None = None
    heard_mono_ms: float = 0.0
    #: A registration that differs from the record, until it is written.
    registration: NodeRegistration | None = None
    #: The replicas that it last reported, and whether its rows may differ from them.
    replicas: tuple[ReplicaReport, ...] | None = None
    replicas_unwritten: bool = False
    #: Names of its accelerators, as it last reported them.
    accelerators: tuple[str, ...] = ()
    #: What it last reported about itself.
    condition: NodeCondition | None = None
    #: Hosts that use its identity; None until a second stream has opened.
    twins: TwinWatch | None = None
    #: Its desired table, decoded, and the version that was decoded.
    desired: tuple[TableVersion, dict[str, DesiredReplica]] | None = None


class FleetMemory:
    """The memory of every node. The supervisor forgets those that are no longer enrolled."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeMemory] = {}
        #: What nodes claim, also of one another.
        self.claims = NodeClaims()

    def of(self, node_id: str) -> NodeMemory:
        """Return the memory of a node, empty for a new one."""
        memory = self._nodes.get(node_id)
        if memory is None:
            memory = self._nodes[node_id] = NodeMemory()
        return memory

    def find(self, node_id: str) -> NodeMemory | None:
        """Return the memory of a node, None if there is none."""
        return self._nodes.get(node_id)

    def items(self) -> Iterable[tuple[str, NodeMemory]]:
        """Return every node with its memory, as of now."""
        return list(self._nodes.items())

    def keep_only(self, node_ids: Collection[str]) -> None:
        """Forget all other nodes."""
        for node_id in [known for known in self._nodes if known not in node_ids]:
            del self._nodes[node_id]
        self.claims.forget_all_but(node_ids)

    def __len__(self) -> int:
        return len(self._nodes)
