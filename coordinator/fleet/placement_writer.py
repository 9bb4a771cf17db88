"""Plans what each node should hold when something has changed, and writes what differs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.core.placement_plan import PlanInput, PlanNode, Unplaced, plan_placements
from coordinator.store import replicas

if TYPE_CHECKING:
    from coordinator.fleet.desired_rows import DesiredRows
    from coordinator.store.store import Store
    from protos.domain.resources import Deployment, DesiredReplica, Model, Node

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The input of the last written plan."""

    nodes: Mapping[str, Node]
    models: Mapping[str, Model]
    deployments: Mapping[str, Deployment]
    placements: dict[str, tuple[str, ...]]

    def is_same(self, other: _Seen) -> bool:
        """Compare by identity: indexes are replaced, never changed."""
        return (
            self.nodes is other.nodes
            and self.models is other.models
            and self.deployments is other.deployments
            and self.placements == other.placements
        )


class PlacementWriter:
    """Runs the planner; called by the supervisor only."""

    def __init__(self, store: Store, desired: DesiredRows) -> None:
        self._store = store
        self._desired = desired
        self._seen: _Seen | None = None
        self._unplaced: frozenset[Unplaced] = frozenset()

    @property
    def unplaced(self) -> int:
        """Number of placements that the last plan could not make."""
        return len(self._unplaced)

    def look_again(self) -> None:
        """Plan again although no row has changed, as after a change of a node's engine kind."""
        self._seen = None

    def desired_of(self, node_id: str) -> Mapping[str, DesiredReplica]:
        """Return what ``node_id`` should hold, by model."""
        return self._desired.of(node_id)

    async def write(self) -> None:
        """Plan if the input has changed, and write what differs. Raises: StoreUnavailable."""
        view = self._store.view()
        seen = _Seen(view.nodes, view.models, view.deployments, dict(self._store.placements()))
        if self._seen is not None and self._seen.is_same(seen):
            return
        plan = plan_placements(self.fleet())
        self._log_unplaced(frozenset(plan.unplaced))
        for node_id, replica in plan.desired.items():
            wanted = {} if replica is None else {replica.model: replica}
            if wanted != self._desired.of(node_id):
                await self._store.write(replicas.set_desired(node_id, wanted))
                _log.info("planned node=%s holds=%s", node_id, _text(replica))
        # Set after the writes, so that a plan whose write failed is made again.
        self._seen = seen

    def fleet(self) -> PlanInput:
        """Return the planner's input."""
        view = self._store.view()
        return PlanInput(
            nodes={
                node_id: PlanNode(
                    engine_kind=self._store.engine_kind(node_id),
                    intent=node.intent,
                    holds=next(iter(self._desired.of(node_id)), None),
                )
                for node_id, node in view.nodes.items()
            },
            models=view.models,
            manifests={model: self._store.manifest(model) for model in view.models},
            deployments=view.deployments,
            placements=self._store.placements(),
        )

    def _log_unplaced(self, unplaced: frozenset[Unplaced]) -> None:
        for one in sorted(unplaced - self._unplaced, key=lambda one: (one.deployment, one.node_id)):
            _log.warning(
                "not placed deployment=%s node=%s: %s", one.deployment, one.node_id, one.reason
            )
        self._unplaced = unplaced


def _text(replica: DesiredReplica | None) -> str:
    return "nothing" if replica is None else replica.model
