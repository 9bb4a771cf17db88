"""Carries out changes of deployments: switches once the next version is ready, then lets go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from coordinator.core.plan_input import replica_key
from coordinator.core.rollout import (
    NodeReadiness,
    Observed,
    Release,
    RolloutPhase,
    Switch,
    Ticked,
    handle,
)
from coordinator.store import deploys
from coordinator.store.records import AuditNote
from protos.domain.resources import NodeHealth

if TYPE_CHECKING:
    from coordinator.core.planned_rows import Desired
    from coordinator.core.rollout import Rollout
    from coordinator.store.store import Store
    from protos.domain.resources import Deployment

_log = logging.getLogger(__name__)


class RolloutController:
    """Called by the supervisor only; each ``write`` makes at most one step for each deployment."""

    def __init__(
        self,
        store: Store,
        desired_of: Callable[[str], Mapping[str, Desired]],
        now_unix_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._desired_of = desired_of
        self._now_unix_ms = now_unix_ms

    async def write(self) -> None:
        """Make the steps that are due. Raises: StoreUnavailable."""
        for name, record in list(self._store.deploys().items()):
            if record.rollout is not None and name in self._store.view().deployments:
                await self._step(name, record.rollout)

    async def _step(self, name: str, rollout: Rollout) -> None:
        event = Observed(()) if rollout.phase is RolloutPhase.PREPARING else Ticked()
        if isinstance(event, Observed):
            event = Observed(readiness_of(self._store, self._desired_of, rollout.other))
        for command in handle(rollout, event, self._now_unix_ms()):
            match command:
                case Switch():
                    detail = f"revision={rollout.other.revision} {rollout.reason}"
                    note = AuditNote("coordinator", "deploy.switch", f"deployment/{name}", detail)
                    if await self._store.write(deploys.switch(name, rollout), note):
                        _log.info("deployment switched name=%s %s", name, detail)
                case Release():
                    await self._store.write(deploys.end(name, rollout))
                    _log.info("deployment settled name=%s", name)


def readiness_of(
    store: Store, desired_of: Callable[[str], Mapping[str, Desired]], version: Deployment
) -> list[NodeReadiness]:
    """Return what each node that is to hold a version has come to, by node id."""
    view = store.view()
    key = replica_key(version.model, version.adapter)
    replicas = (
        view.adapter_replicas.get(version.adapter, {})
        if version.adapter
        else view.replicas.get(version.model, {})
    )
    found = []
    for node_id, node in sorted(view.nodes.items()):
        if version.pins is not None and node_id not in version.pins:
            continue
        pop = view.pops.get(node.pop_id)
        if version.residency_zones and (pop is None or pop.zone not in version.residency_zones):
            continue
        row = desired_of(node_id).get(key)
        if row is None:
            continue
        replica = replicas.get(node_id)
        is_right = replica is not None and replica.model == version.model
        found.append(
            NodeReadiness(
                node_id,
                node.health is not NodeHealth.DEAD,
                row.hold,
                replica.state if replica is not None and is_right else None,
                *((replica.residency,) if replica is not None and is_right else ()),
            )
        )
    return found
