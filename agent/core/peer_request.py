"""What another agent's request claims in its headers, checked against the routing table. Pure.

The asking agent has authenticated its client; this agent cannot. What it can check is that the
account exists, that the deployment is the account's own and is of the model that is asked for, and
that this node may serve it. Two tables may differ for a moment after a change: what such a
difference explains is refused with 503, so that the asking agent asks another node. The rest is
never sent by an agent of ours: 403.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.errors import Conflict, EdgeForgeError, Forbidden, InvalidRequest, NoReplica
from protos.domain.ids import check_zone
from protos.domain.residency import Zones, allowed_zones, is_inside, zone_of

if TYPE_CHECKING:
    from protos.domain.fleet_view import FleetView
    from protos.domain.resources import Deployment

ACCOUNT_HEADER = b"x-edgeforge-account"
DEPLOYMENT_HEADER = b"x-edgeforge-deployment"
MODEL_HEADER = b"x-edgeforge-model"
#: The registry's name of the adapter; absent without one.
ADAPTER_HEADER = b"x-edgeforge-adapter"
#: Present if the asking agent placed the request on a node that must load what it asks for first.
LOAD_HEADER = b"x-edgeforge-load"
#: Zones that the request is bound to, comma separated; absent: it is bound to none.
ZONES_HEADER = b"x-edgeforge-zones"
#: Code of the refusal (409) of what is not, or no longer, in the engine here.
STALE_CODE = "stale_generation"
#: Longest value of one of these headers: a model's name has at most 194 characters.
_MAX_VALUE_BYTES = 256


@dataclass(slots=True)
class PeerRequest:
    """Who asks, and for whom. Written once; not frozen because it is hot."""

    asking_node: str
    account: str
    deployment: str
    #: The registry's names of the model and of its adapter, which may be empty.
    model: str
    adapter: str = ""
    #: Whether it may be loaded for this request.
    may_load: bool = False
    #: The zones in which the asking agent may have it served; None: any.
    zones: Zones = None


def read_peer_request(
    headers: Mapping[bytes, bytes], asking_node: str, here: str, view: FleetView
) -> PeerRequest:
    """Return the request that ``asking_node`` makes of node ``here``. Hot.

    Raises: Forbidden for a claim that no agent makes; NoReplica or Conflict for one that this
    node's table does not have, or no longer has.
    """
    account = _value(headers, ACCOUNT_HEADER)
    name = _value(headers, DEPLOYMENT_HEADER)
    model = _value(headers, MODEL_HEADER)
    adapter = _value(headers, ADAPTER_HEADER) if ADAPTER_HEADER in headers else ""
    claimed = PeerRequest(
        asking_node, account, name, model, adapter, LOAD_HEADER in headers, _zones(headers)
    )
    check_peer_request(claimed, here, view)
    _check_what_it_names(claimed, here, view)
    pins = view.deployments[name].pins
    if pins is not None and here not in pins:
        raise NoReplica(f"deployment {name!r} is not pinned to node {here}")
    return claimed


def check_peer_request(claimed: PeerRequest, here: str, view: FleetView) -> None:
    """Check ``claimed`` against a table, also while it runs. Raises: as ``read_peer_request``.

    Pins, model and adapter are left out: a request that runs ends where and as it was placed.
    """
    if claimed.asking_node not in view.nodes:
        raise Forbidden(f"node {claimed.asking_node} is not in the table")
    if claimed.account not in view.accounts:
        raise NoReplica(f"node {here} knows no account {claimed.account!r}")
    deployment = view.deployments.get(claimed.deployment)
    if deployment is None:
        raise NoReplica(f"node {here} knows no deployment {claimed.deployment!r}")
    if deployment.account_id != claimed.account:
        raise Forbidden(f"deployment {claimed.deployment!r} is not of account {claimed.account!r}")
    refusal = outside(claimed, deployment, here, view)
    if refusal is not None:
        raise refusal


def refuse_by_head(
    headers: Mapping[bytes, bytes], asking_node: str, here: str, view: FleetView
) -> None:
    """Refuse by its head what may not be read here, so that its body is not. Hot.

    Other mistakes of a head are left to ``read_peer_request``. Raises: NoReplica, Forbidden.
    """
    account, name = _value(headers, ACCOUNT_HEADER), _value(headers, DEPLOYMENT_HEADER)
    if account not in view.accounts:
        raise NoReplica(f"node {here} knows no account {account!r}")
    deployment = view.deployments.get(name)
    if deployment is None or deployment.account_id != account:
        return
    claimed = PeerRequest(asking_node, account, name, "", zones=_zones(headers))
    refusal = outside(claimed, deployment, here, view)
    if refusal is not None:
        raise refusal


def outside(
    claimed: PeerRequest, deployment: Deployment, here: str, view: FleetView
) -> EdgeForgeError | None:
    """Return why ``here`` may not serve it for its zone, or that of who asks; None: it may. Hot.

    Zones of nodes are those of this table, never what a peer says of itself.
    """
    account = view.accounts.get(claimed.account)
    pinned = allowed_zones(deployment.residency_zones, None)
    if account is not None and account.zones:
        pinned = allowed_zones(account.zones, pinned)
    if pinned is None and claimed.zones is None:
        return None
    zones = allowed_zones(claimed.zones, pinned) if claimed.zones else pinned
    if not is_inside(zone_of(view, here), zones):
        return NoReplica(f"node {here} may not serve deployment {claimed.deployment!r} in its zone")
    if not is_inside(zone_of(view, claimed.asking_node), pinned):
        return NoReplica(
            f"node {claimed.asking_node} may not ask for deployment {claimed.deployment!r}: it is"
            " outside its zones"
        )
    return None


def _check_what_it_names(claimed: PeerRequest, here: str, view: FleetView) -> None:
    """Let a peer ask for what the deployment names, and nothing else. Raises: EdgeForgeError.

    Another model or adapter that the account may deploy is explained by a table that has changed:
    409, so that it is placed again.
    """
    deployment = view.deployments[claimed.deployment]
    model, adapter = claimed.model, claimed.adapter
    if deployment.model == model and deployment.adapter == adapter:
        return
    if adapter and deployment.adapter != adapter:
        known = view.adapters.get(adapter)
        if known is None or known.model != model or known.account_id not in ("", claimed.account):
            raise Forbidden(f"deployment {deployment.name!r} does not name adapter {adapter!r}")
    raise Conflict(
        f"for node {here} deployment {deployment.name!r} is of {deployment.model!r} "
        f"{deployment.adapter or 'without an adapter'}",
        code=STALE_CODE,
    )


def _zones(headers: Mapping[bytes, bytes]) -> Zones:
    """Return the zones that a request is bound to; None: none. Raises: Forbidden."""
    if ZONES_HEADER not in headers:
        return None
    try:
        return frozenset(check_zone(one) for one in _value(headers, ZONES_HEADER).split(","))
    except InvalidRequest as error:
        raise Forbidden(f"a peer's request has no valid {ZONES_HEADER.decode()}") from error


def _value(headers: Mapping[bytes, bytes], name: bytes) -> str:
    """Return the text of a header that every agent sends. Raises: Forbidden."""
    value = headers.get(name, b"")
    if not value or len(value) > _MAX_VALUE_BYTES or not value.isascii():
        raise Forbidden(f"a peer's request has no valid {name.decode()}")
    return value.decode("ascii")
