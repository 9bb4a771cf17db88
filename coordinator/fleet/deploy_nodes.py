"""What each node has come to of a version of a deployment, from the table and its own reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from coordinator.core.deploy_progress import NodeProgress
from coordinator.core.plan_input import replica_key
from protos.domain.resources import NodeHealth

if TYPE_CHECKING:
    from coordinator.core.planned_rows import Desired
    from coordinator.fleet.live import LiveNode
    from coordinator.store.store import Store
    from protos.domain.resources import Deployment

LiveOf = Callable[[str], "LiveNode | None"]


def progress_of(
    store: Store,
    desired_of: Callable[[str], Mapping[str, Desired]],
    live_of: LiveOf,
    version: Deployment,
    *,
    is_next: bool,
) -> list[NodeProgress]:
    """Return what each node that is to hold ``version`` has come to, by node id."""
    view = store.view()
    key = replica_key(version.model, version.adapter)
    by_node = view.replicas.get(version.model, {})
    if version.adapter:
        by_node = view.adapter_replicas.get(version.adapter, {})
    found = []
    for node_id in sorted(view.nodes):
        row = desired_of(node_id).get(key)
        if row is None or (version.pins is not None and node_id not in version.pins):
            continue
        live = live_of(node_id)
        told = [
            one
            for one in (live.report.replicas if live else ())
            if (one.model, one.adapter) == (version.model, version.adapter)
        ]
        replica = by_node.get(node_id)
        state = replica.state if replica else None
        found.append(
            NodeProgress(
                node_id,
                version.adapter or version.model,
                row.hold,
                connected=live is not None and live.connected,
                alive=view.nodes[node_id].health is not NodeHealth.DEAD,
                state=told[0].state if told and replica else state,
                **({"residency": replica.residency} if replica else {}),
                pulled_bytes=told[0].pulled_bytes if told else 0,
                total_bytes=told[0].total_bytes if told else 0,
                error=told[0].error if told else "",
                is_next=is_next,
                is_adapter=bool(version.adapter),
                generation=replica.generation if replica else 0,
            )
        )
    return found
