"""The zones that a request is bound to, and whether a place is in them.

A request is bound by its account, its key, its deployment, and its own header: the zones that all
of them allow. A level without zones binds nothing. ``None`` is not bound; the empty set is nowhere.
An agent outside the zones of account, key and deployment neither reads, serves nor keeps the
request; the header narrows further where it is served.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protos.domain.customers import Account, ApiKey
    from protos.domain.fleet_view import FleetView
    from protos.domain.resources import Deployment, Pop

Zones = frozenset[str] | None


def allowed_zones(given: Collection[str], narrowed_zones: Zones) -> Zones:
    """Return the zones that both allow; None means any zone, the empty set no zone.

    ``given`` is of a deployment, an account or a key: without zones it binds nothing. Hot.
    """
    zones = frozenset(given) if given else None
    if narrowed_zones is None:
        return zones
    return narrowed_zones if zones is None else zones & narrowed_zones


def bound_zones(
    account: Account, key: ApiKey, deployment: Deployment | None, header: Zones
) -> Zones:
    """Return the zones that a request is bound to; None: not bound, the empty set: nowhere. Hot.

    ``deployment`` None: not known yet, as before the body is read.
    """
    zones = allowed_zones(account.zones, allowed_zones(key.zones, header))
    return zones if deployment is None else allowed_zones(deployment.residency_zones, zones)


def recorded_zones(zones: Zones) -> tuple[str, ...]:
    """Return bound zones as ``UsageRecord.zones`` and traces have them: sorted; empty: not bound.

    Nowhere is not recorded: such a request is refused at its admission.
    """
    return tuple(sorted(zones)) if zones else ()


def is_pinned(account: Account, key: ApiKey, deployment: Deployment) -> bool:
    """Return whether the residency surcharge applies: account, key or deployment has zones. Hot.

    The header alone does not: it decides where a request is served, and holds nothing in a zone.
    """
    return bool(account.zones or key.zones or deployment.residency_zones)


def zone_of(view: FleetView, node_id: str) -> str:
    """Return the zone of a node by the table; empty: not known, which is in no zone. Hot."""
    node = view.nodes.get(node_id)
    return "" if node is None else zone_of_pop(view.pops, node.pop_id)


def zone_of_pop(pops: Mapping[str, Pop], pop_id: str) -> str:
    """Return the zone of a site; empty: not known, which is in no zone."""
    pop = pops.get(pop_id)
    return "" if pop is None else pop.zone


def is_inside(zone: str, zones: Zones) -> bool:
    """Return whether what is bound to ``zones`` may be in ``zone``. Hot."""
    return zones is None or zone in zones


def may_leave(zones: Collection[str], zone: str) -> bool:
    """Return whether what is recorded with ``zones`` may go to ``zone``; empty: not said."""
    return not zones or zone in zones
