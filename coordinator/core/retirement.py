"""Where the replicas of a node that is to be retired go.

Deployments are pinned to nodes by their operators, so a retirement moves pins: the target is added
first, and the retiring node's pin goes when it has retired. Laws: a target is active, healthy, in
an allowed zone, of the right engine kind, and holds nothing else; a move that can be kept is kept;
same input, same moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coordinator.core.node_orders import Move
from coordinator.core.placement_plan import ENGINE_KIND_OF, PlanInput
from protos.domain.resources import Model, ModelSource, NodeIntent, Tier


@dataclass(frozen=True, slots=True)
class Site:
    """Where a node is, and whether its health is READY."""

    pop_id: str
    tier: Tier
    zone: str
    healthy: bool


def plan_moves(
    fleet: PlanInput, sites: Mapping[str, Site], node_id: str, kept: tuple[Move, ...]
) -> tuple[Move, ...]:
    """Return a move for each deployment pinned to ``node_id``, as in ``kept`` where still valid."""
    occupied = _occupied(fleet)
    before = {move.deployment: move.node_id for move in kept}
    shared: set[str] = set()
    moves = []
    for name in sorted(fleet.deployments):
        if node_id not in fleet.placements.get(name, ()):
            continue
        model = fleet.models.get(fleet.deployments[name].model)
        if model is None:
            continue
        zones = fleet.deployments[name].residency_zones
        able = [
            other
            for other in sorted(fleet.nodes)
            if other != node_id and _can_take(fleet, sites, occupied, other, model, zones)
        ]
        if not able:
            moves.append(Move(name, model.name, "", _why_nowhere(model, zones)))
            continue
        target = before.get(name, "")
        if target not in able:
            # One engine serves every deployment of a model.
            together = [other for other in able if other in shared] or able
            target = min(together, key=lambda other: _distance(sites, occupied, node_id, other))
        occupied[target] = model.name
        shared.add(target)
        moves.append(Move(name, model.name, target))
    return tuple(moves)


def _occupied(fleet: PlanInput) -> dict[str, str]:
    """Return the model that each node holds, or will hold by its pins."""
    occupied = {name: node.holds for name, node in fleet.nodes.items() if node.holds}
    for deployment in sorted(fleet.placements):
        wanted = fleet.deployments.get(deployment)
        for node_id in fleet.placements[deployment] if wanted else ():
            assert wanted is not None
            occupied.setdefault(node_id, wanted.model)
    return occupied


def _can_take(
    fleet: PlanInput,
    sites: Mapping[str, Site],
    occupied: Mapping[str, str],
    node_id: str,
    model: Model,
    zones: tuple[str, ...],
) -> bool:
    node, site = fleet.nodes[node_id], sites.get(node_id)
    if site is None or not site.healthy or node.intent is not NodeIntent.ACTIVE:
        return False
    if node.engine_kind != ENGINE_KIND_OF[model.source] or (zones and site.zone not in zones):
        return False
    holds = occupied.get(node_id)
    # Only a pin says which model an external engine serves.
    return holds == model.name or (holds is None and model.source is ModelSource.MANAGED)


def _distance(
    sites: Mapping[str, Site], occupied: Mapping[str, str], here: str, other: str
) -> tuple[bool, bool, bool, str]:
    """Return the sort key of a target: same tier, then a free engine, then the same POP."""
    home, site = sites.get(here), sites[other]
    return (
        home is not None and site.tier is not home.tier,
        other in occupied,
        home is not None and site.pop_id != home.pop_id,
        other,
    )


def _why_nowhere(model: Model, zones: tuple[str, ...]) -> str:
    where = f" in {', '.join(zones)}" if zones else ""
    if model.source is ModelSource.EXTERNAL:
        return f"no other active external engine{where} is pinned to {model.name}"
    return f"no other active vllm engine{where} is free or holds {model.name}"
