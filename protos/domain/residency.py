"""The zones a request may be served in: the deployment's, narrowed by the request."""

from __future__ import annotations

from collections.abc import Collection


def allowed_zones(
    deployment_zones: Collection[str], narrowed_zones: frozenset[str] | None
) -> frozenset[str] | None:
    """Return the zones that both allow; None means any zone, the empty set no zone.

    A deployment without zones may be served anywhere. A request can only narrow.
    """
    zones = frozenset(deployment_zones) if deployment_zones else None
    if narrowed_zones is None:
        return zones
    return narrowed_zones if zones is None else zones & narrowed_zones
