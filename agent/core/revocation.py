"""What a new routing table takes away from requests in progress. Pure.

A removed node, key, account or deployment is taken away at once, and so is a request whose zones no
longer have this node among them: it is read here no further. A key that expires is not: its end
was known when the request began, so the request may end; expiry is checked only at the beginning.
Draining, cordoning and health concern new requests only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.errors import EdgeForgeError, NotFound, Unauthenticated
from protos.domain.in_zone import misdirected
from protos.domain.residency import bound_zones, is_inside, zone_of

if TYPE_CHECKING:
    from protos.domain.fleet_view import FleetView


def may_revoke(old: FleetView, new: FleetView) -> bool:
    """Whether the change from ``old`` to ``new`` can have taken anything away.

    Compares identities only: an index that did not change is the same object in both views.
    """
    return (
        old.nodes is not new.nodes
        or old.keys is not new.keys
        or old.accounts is not new.accounts
        or old.deployments is not new.deployments
        or old.pops is not new.pops
    )


def revoked(
    view: FleetView, key_digest: bytes, account: str, deployment: str, node_id: str
) -> EdgeForgeError | None:
    """Return why a client's request may not go on at ``node_id``, or None.

    Hot: for every request in progress.
    """
    key = view.keys.get(key_digest)
    if key is None:
        foreign = view.foreign_keys.get(key_digest)
        if foreign is not None:
            return misdirected(view, node_id, frozenset(foreign.zones))
        return Unauthenticated("this API key was revoked", "send the request with another key")
    if key.account_id != account or account not in view.accounts:
        return Unauthenticated("the account of this API key was removed", "use another account")
    found = view.deployments.get(deployment)
    if found is None or found.account_id != account:
        return NotFound(
            f"the model {deployment[:128]!r} was removed",
            "GET /v1/models lists what this key may call",
            code="model_not_found",
            param="model",
        )
    zones = bound_zones(view.accounts[account], key, found, None)
    if not is_inside(zone_of(view, node_id), zones):
        return misdirected(view, node_id, zones or frozenset())
    return None
