"""Which nodes may hold a model or an adapter: only where a deployment of it may be served.

A version that a deployment is changed to counts as well, by its own pins and zones: nodes make it
ready before requests are served by it. The coordinator plans and serves files by this, and agents
serve pieces to their peers by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.residency import zone_of
from protos.domain.resources import NodeIntent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from protos.domain.fleet_view import FleetView
    from protos.domain.resources import Deployment, NextVersion, Node, Pop


def may_hold(view: FleetView, node_id: str, name: str) -> bool:
    """Return whether ``node_id`` may hold the model or adapter ``name``, by the table.

    A deployment must name it, now or next, and allow that node by its pins and its zones.
    """
    node = view.nodes.get(node_id)
    if node is None or node.intent is NodeIntent.RETIRED:
        return False
    return any(may_serve(one, node, view.pops) for one in _users(view).get(name, ()))


def is_outside(view: FleetView, node_id: str, name: str) -> bool:
    """Return whether zones keep the model or adapter ``name`` away from ``node_id``.

    Deployments name it, and every one of them is bound to zones of which the node's is none. False
    while the node's zone is not known: what is deleted by this does not come back by itself.
    """
    users = _users(view).get(name, ())
    zone = zone_of(view, node_id)
    return bool(users and zone) and all(
        one.residency_zones and zone not in one.residency_zones for one in users
    )


def names_outside(view: FleetView, node_id: str) -> set[str]:
    """Return every model and adapter that zones keep away from ``node_id``."""
    return {name for name in _users(view) if is_outside(view, node_id, name)}


def _users(view: FleetView) -> Mapping[str, list[Deployment | NextVersion]]:
    """Return the versions that use each name; found once for a view: thousands are asked for."""
    users = view.users
    if not users:
        for deployment in view.deployments.values():
            for one in _versions(deployment):
                for name in filter(None, (one.model, one.adapter)):
                    users.setdefault(name, []).append(one)
    return users


def may_serve(version: Deployment | NextVersion, node: Node, pops: Mapping[str, Pop]) -> bool:
    """Return whether ``version`` may be held and served at ``node``, by its pins and its zones."""
    if version.pins is not None and node.id not in version.pins:
        return False
    if not version.residency_zones:
        return True
    pop = pops.get(node.pop_id)
    return pop is not None and pop.zone in version.residency_zones


def names_held(view: FleetView) -> set[str]:
    """Return the models and adapters that some node may hold."""
    return set(_users(view))


def _versions(deployment: Deployment) -> Iterator[Deployment | NextVersion]:
    yield deployment
    if deployment.next is not None:
        yield deployment.next
