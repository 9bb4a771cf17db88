"""Where a request may be served: a deployment's zones, narrowed by the request."""

from __future__ import annotations

from collections.abc import Iterable

from protos.domain.errors import InvalidRequest
from protos.domain.ids import check_zone

#: Zones one request may name.
MAX_ZONES = 32


def allowed_zones(
    deployment_zones: Iterable[str], narrowed_zones: frozenset[str] | None
) -> frozenset[str] | None:
    """Return the zones that both allow; None is anywhere, the empty set nowhere.

    A deployment without zones may be served anywhere. A request can only narrow.
    """
    zones = frozenset(deployment_zones) or None
    if narrowed_zones is None:
        return zones
    return narrowed_zones if zones is None else zones & narrowed_zones


def parse_zones(text: str) -> frozenset[str]:
    """Return the zones of ``x-edgeforge-residency``: "BR" or "BR, EU". Raises: InvalidRequest."""
    zones = [part.strip() for part in text.split(",")]
    if len(zones) > MAX_ZONES:
        raise InvalidRequest(f"more than {MAX_ZONES} residency zones", "name fewer")
    return frozenset(check_zone(zone) for zone in zones)
