"""Where a request may be served: a deployment's zones, narrowed by the request."""

from __future__ import annotations

from collections.abc import Collection


def allowed_zones(
    deployment_zones: Collection[str], narrowed_zones: frozenset[str] | None
) -> frozenset[str] | None:
    """Return the zones that both allow; None is anywhere, the empty set nowhere.

    A deployment without zones may be served anywhere. A request can only narrow.
    """
    zones = frozenset(deployment_zones) if deployment_zones else None
    if narrowed_zones is None:
        return zones
    return narrowed_zones if zones is None else zones & narrowed_zones
