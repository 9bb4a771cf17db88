"""Which credentials an agent is sent: those of its zone, and of others only where they go. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.customers import Account, ApiKey, ForeignKey
from protos.domain.residency import Zones, allowed_zones, is_inside

if TYPE_CHECKING:
    from protos.domain.resources import Resource


def zones_of_row(resource: Resource) -> Zones:
    """Return the zones that a row of the credentials may go to as it is; None: any."""
    match resource:
        case Account():
            return allowed_zones(resource.zones, None)
        case ApiKey():
            return allowed_zones(resource.account_zones, allowed_zones(resource.zones, None))
        case _:
            return None


def row_outside(resource: Resource) -> ForeignKey | None:
    """Return what stands for a row outside its zones; None: nothing does."""
    if not isinstance(resource, ApiKey):
        return None
    zones = zones_of_row(resource) or frozenset()
    return ForeignKey(resource.id, resource.digest, tuple(sorted(zones)), resource.expires_unix_ms)


def row_for(resource: Resource, zone: str) -> Resource | None:
    """Return the row that agents of ``zone`` get; None: none. An empty zone is in no zone."""
    return resource if is_inside(zone, zones_of_row(resource)) else row_outside(resource)
