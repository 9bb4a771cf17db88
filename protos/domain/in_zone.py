"""Where a request goes that may not be read here: the nearest agents of its zones, by the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.errors import Misdirected
from protos.domain.geo import great_circle_km
from protos.domain.residency import is_inside, zone_of
from protos.domain.resources import NodeHealth, NodeIntent

if TYPE_CHECKING:
    from protos.domain.fleet_view import FleetView
    from protos.domain.residency import Zones
    from protos.domain.resources import Pop

#: Addresses that a refusal names.
MAX_ADDRESSES = 3
_SERVING = (NodeHealth.READY, NodeHealth.SUSPECT)


def check_inside(view: FleetView, node_id: str, zones: Zones) -> None:
    """Refuse what is bound to ``zones`` at a node that is in none of them. Hot.

    Raises: Misdirected.
    """
    if zones is not None and zone_of(view, node_id) not in zones:
        raise misdirected(view, node_id, zones)


def misdirected(view: FleetView, node_id: str, zones: frozenset[str]) -> Misdirected:
    """Return the refusal at ``node_id``, with the nearest addresses in ``zones``."""
    here = zone_of(view, node_id) or "an unknown zone"
    if not zones:
        return Misdirected(
            f"this request may be read nowhere: account, key and deployment have no zone in common"
            f" (this agent is in {here})",
            "ask the operator which zones are meant",
        )
    said = ", ".join(sorted(zones))
    found = addresses(view, node_id, zones)
    error = Misdirected(
        f"this request may only be read in {said}; this agent is in {here}",
        f"send it to {found[0]}" if found else f"no agent in {said} is known here: try again later",
        retryable=not found,
    )
    error.in_zone = found
    return error


def addresses(view: FleetView, node_id: str, zones: frozenset[str]) -> tuple[str, ...]:
    """Return the client addresses of agents in ``zones`` that take requests, the nearest first.

    One of each POP before a second one of any.
    """
    node = view.nodes.get(node_id)
    here = None if node is None else view.pops.get(node.pop_id)
    found: list[tuple[float, str, str, str]] = []
    for other in view.nodes.values():
        pop = view.pops.get(other.pop_id)
        if pop is None or not is_inside(pop.zone, zones) or not other.client_url:
            continue
        if other.health in _SERVING and other.intent is NodeIntent.ACTIVE:
            found.append((_distance_km(here, pop), pop.id, other.id, other.client_url))
    found.sort()
    first: dict[str, str] = {}
    more: list[str] = []
    for _, pop_id, _, url in found:
        if pop_id in first:
            more.append(url)
        else:
            first[pop_id] = url
    return tuple(dict.fromkeys((*first.values(), *more)))[:MAX_ADDRESSES]


def _distance_km(here: Pop | None, there: Pop) -> float:
    if here is None:
        return 0.0
    return great_circle_km(
        here.latitude_deg, here.longitude_deg, there.latitude_deg, there.longitude_deg
    )
