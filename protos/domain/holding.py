"""Which nodes may hold a model or an adapter: only where a deployment of it may be served.

The coordinator plans and serves files by it, and agents serve pieces to their peers by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.resources import NodeIntent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from protos.domain.fleet_view import FleetView
    from protos.domain.resources import Deployment, Node, Pop


def may_hold(view: FleetView, node_id: str, name: str) -> bool:
    """Return whether ``node_id`` may hold the model or adapter ``name``, by the table.

    A deployment must name it, and allow that node by its pins and its zones.
    """
    node = view.nodes.get(node_id)
    if node is None or node.intent is NodeIntent.RETIRED:
        return False
    return any(may_serve(one, node, view.pops) for one in _users(view).get(name, ()))


def _users(view: FleetView) -> Mapping[str, list[Deployment]]:
    """Return the deployments of each name; found once for a view, since thousands are asked for."""
    users = view.users
    if not users:
        for one in view.deployments.values():
            users.setdefault(one.model, []).append(one)
            if one.adapter:
                users.setdefault(one.adapter, []).append(one)
    return users


def may_serve(deployment: Deployment, node: Node, pops: Mapping[str, Pop]) -> bool:
    """Return whether ``deployment`` may be served at ``node``, by its pins and its zones."""
    if deployment.pins is not None and node.id not in deployment.pins:
        return False
    if not deployment.residency_zones:
        return True
    pop = pops.get(node.pop_id)
    return pop is not None and pop.zone in deployment.residency_zones
