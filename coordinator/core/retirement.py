"""Where the replicas of a node that is to be retired go.

A retirement moves the pins of deployments: the target is added first, and the retiring node's pin
goes when it has retired. What the replica plan put there without a pin, it puts elsewhere by
itself; the retirement waits for that. Laws: a target is active, healthy, in an allowed zone, of the
right engine kind, and has a free engine; a move that can be kept is kept; same input, same moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coordinator.core.node_orders import Move
from coordinator.core.plan_input import PlanInput, misfit
from protos.domain.resources import Hold, Model, ModelSource, NodeIntent, Tier


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
        model = fleet.models.get(fleet.deployments[name].model)
        if model is None:
            continue
        if node_id not in fleet.placements.get(name, ()):
            is_free = fleet.pins_of(name) is None and model.source is ModelSource.MANAGED
            if is_free and model.name in fleet.nodes[node_id].hot:
                moves.append(_planned_move(fleet, sites, node_id, name, model))
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
        occupied.setdefault(target, set()).add(model.name)
        shared.add(target)
        moves.append(Move(name, model.name, target))
    return tuple(moves)


def _planned_move(
    fleet: PlanInput, sites: Mapping[str, Site], here: str, deployment: str, model: Model
) -> Move:
    """Return where the replica plan holds a model beside ``here``."""
    for other, node in sorted(fleet.nodes.items()):
        site = sites.get(other)
        if other == here or not node.counts or site is None or not site.healthy:
            continue
        zones = fleet.deployments[deployment].residency_zones
        if node.holds.get(model.name) in (Hold.HOT, Hold.DISK) and (
            not zones or site.zone in zones
        ):
            return Move(deployment, model.name, other)
    return Move(deployment, model.name, "", f"the plan finds no other place for {model.name}")


def _occupied(fleet: PlanInput) -> dict[str, set[str]]:
    """Return the models that each node holds in engines, or will hold by its pins."""
    occupied = {name: set(node.hot) for name, node in fleet.nodes.items() if node.hot}
    for deployment in sorted(fleet.placements):
        wanted = fleet.deployments.get(deployment)
        for node_id in fleet.placements[deployment] if wanted else ():
            assert wanted is not None
            if not occupied.get(node_id):
                occupied[node_id] = {wanted.model}
    return occupied


def _can_take(
    fleet: PlanInput,
    sites: Mapping[str, Site],
    occupied: Mapping[str, set[str]],
    node_id: str,
    model: Model,
    zones: tuple[str, ...],
) -> bool:
    node, site = fleet.nodes[node_id], sites.get(node_id)
    if site is None or not site.healthy or node.intent is not NodeIntent.ACTIVE:
        return False
    if misfit(node.engine_kind, node.hardware, model) or (zones and site.zone not in zones):
        return False
    holds = occupied.get(node_id, set())
    if model.name in holds:
        return True
    # Only a pin says which model an external engine serves.
    return len(holds) < node.hardware.engines and model.source is ModelSource.MANAGED


def _distance(
    sites: Mapping[str, Site], occupied: Mapping[str, set[str]], here: str, other: str
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
