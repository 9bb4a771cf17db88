"""Carries out changes of deployments: switches once the next version is ready, then lets go.

What is not ready in time is withdrawn, with what was missing then.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from coordinator.core.deploy_progress import waits_for
from coordinator.core.plan_input import replica_key
from coordinator.core.rollout import (
    Event,
    Followed,
    NodeReadiness,
    Observed,
    Release,
    RolloutPhase,
    Switch,
    Withdraw,
    handle,
)
from coordinator.fleet.deploy_nodes import progress_of
from coordinator.store import deploys
from coordinator.store.records import AuditNote
from protos.domain.errors import Conflict
from protos.domain.resources import NodeHealth, ResourceType
from protos.domain.routing_table import TableVersion

if TYPE_CHECKING:
    from coordinator.core.planned_rows import Desired
    from coordinator.core.rollout import Rollout
    from coordinator.fleet.deploy_nodes import LiveOf
    from coordinator.store.store import Store
    from protos.domain.resources import Deployment

_log = logging.getLogger(__name__)

#: Nodes whose reason is kept with a change that was withdrawn.
MAX_REASONS = 5


#: Node -> the version of the deployments' table that it holds; of connected ones.
HeldBy = Callable[[], Mapping[str, TableVersion]]


@dataclass(frozen=True, slots=True)
class _Watch:
    """A switch that agents are to follow: the table that has it, and when all had that."""

    rollout: Rollout
    at: TableVersion
    followed_unix_ms: int | None = None


class RolloutController:
    """Called by the supervisor only; each ``write`` makes at most one step for each deployment."""

    def __init__(
        self,
        store: Store,
        desired_of: Callable[[str], Mapping[str, Desired]],
        now_unix_ms: Callable[[], int],
        held_by: HeldBy,
        live_of: LiveOf,
    ) -> None:
        self._store = store
        self._desired_of = desired_of
        self._now_unix_ms = now_unix_ms
        self._held_by = held_by
        self._live_of = live_of
        self._watched: dict[str, _Watch] = {}

    async def write(self) -> None:
        """Make the steps that are due. Raises: StoreUnavailable."""
        settling = set()
        for name, record in list(self._store.deploys().items()):
            if record.rollout is not None and name in self._store.view().deployments:
                await self._step(name, record.rollout)
                if record.rollout.phase is RolloutPhase.SETTLING:
                    settling.add(name)
        self._watched = {name: one for name, one in self._watched.items() if name in settling}

    async def _step(self, name: str, rollout: Rollout) -> None:
        event: Event
        if rollout.phase is RolloutPhase.PREPARING:
            event = Observed(readiness_of(self._store, self._desired_of, rollout.other))
        else:
            event = Followed(self._followed_unix_ms(name, rollout))
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
                case Withdraw():
                    await self._withdraw(name, rollout)

    async def _withdraw(self, name: str, rollout: Rollout) -> None:
        why = f"not ready after {rollout.timeout_ms / 1_000:g} s: {self._missing(rollout.other)}"
        detail = f"revision={rollout.other.revision} {why}"
        note = AuditNote("coordinator", "deploy.withdraw", f"deployment/{name}", detail)
        # An operator may have withdrawn it in this moment.
        with contextlib.suppress(Conflict):
            await self._store.write(deploys.withdraw(name, rollout, "coordinator", why), note)
            _log.warning("deployment change withdrawn name=%s %s", name, detail)

    def _missing(self, version: Deployment) -> str:
        nodes = progress_of(self._store, self._desired_of, self._live_of, version, is_next=True)
        lines = waits_for(nodes, "no node holds it: see `edgeforge plan show`")
        more = f"; and {len(lines) - MAX_REASONS} more" if len(lines) > MAX_REASONS else ""
        return "; ".join(lines[:MAX_REASONS]) + more or "too few nodes are ready"

    def _followed_unix_ms(self, name: str, rollout: Rollout) -> int | None:
        """Return since when every agent that may place requests has the row; None: not yet.

        A node that is not connected still places requests until it is held dead.
        """
        watch = self._watched.get(name)
        if watch is None or watch.rollout != rollout:
            # At or after the switch, as after a restart.
            watch = _Watch(rollout, self._store.table(ResourceType.DEPLOYMENTS).at)
        if watch.followed_unix_ms is None:
            held = self._held_by()
            alive = (
                node_id
                for node_id, node in self._store.view().nodes.items()
                if node.health is not NodeHealth.DEAD or node_id in held
            )
            if all(node_id in held and held[node_id] >= watch.at for node_id in alive):
                watch = replace(watch, followed_unix_ms=self._now_unix_ms())
        self._watched[name] = watch
        return watch.followed_unix_ms


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
