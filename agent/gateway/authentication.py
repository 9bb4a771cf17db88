"""Authentication by API key, from the table in memory, and the deployments that a key may call."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.errors import EdgeForgeError, InvalidRequest, NotFound, Unauthenticated
from protos.domain.in_zone import check_inside, misdirected
from protos.domain.residency import bound_zones

if TYPE_CHECKING:
    from protos.domain.customers import Account, ApiKey
    from protos.domain.fleet_view import FleetView
    from protos.domain.resources import Deployment

_MAX_KEY_BYTES = 512
_HINT = "send a valid key as 'Authorization: Bearer <key>' or 'x-api-key: <key>'"


@dataclass(slots=True)
class Caller:
    """An authenticated key and its account. Written once; not frozen because it is hot."""

    key: ApiKey
    account: Account


def authenticate(
    headers: Mapping[bytes, bytes],
    view: FleetView,
    now_unix_ms: int,
    require_credentials: Callable[[], None],
    node_id: str,
) -> Caller:
    """Return the key in ``headers`` and its account, if they may be used at ``node_id``.

    Raises: Unauthenticated; Misdirected outside their zones; what ``require_credentials`` raises
    while keys cannot be checked here.
    """
    secret = _given_key(headers)
    require_credentials()
    digest = hashlib.sha256(secret).digest()
    key = view.keys.get(digest)
    if key is None:
        raise _refused(view, digest, now_unix_ms, node_id)
    if 0 < key.expires_unix_ms <= now_unix_ms:
        raise _expired()
    account = view.accounts.get(key.account_id)
    if account is None:
        raise Unauthenticated("this API key belongs to no account", _HINT)
    if account.zones or key.zones:
        check_inside(view, node_id, bound_zones(account, key, None, None))
    return Caller(key, account)


def _refused(view: FleetView, digest: bytes, now_unix_ms: int, node_id: str) -> EdgeForgeError:
    """Return why a key that is not of this agent is refused: for where it is, or altogether."""
    foreign = view.foreign_keys.get(digest)
    if foreign is None:
        return Unauthenticated("incorrect API key", _HINT)
    if 0 < foreign.expires_unix_ms <= now_unix_ms:
        return _expired()
    return misdirected(view, node_id, frozenset(foreign.zones))


def _expired() -> Unauthenticated:
    return Unauthenticated("this API key has expired", "create another key")


def _given_key(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the key in ``headers``: a bearer token, else ``x-api-key``. Raises: Unauthenticated.

    A proxy may add an ``Authorization`` of its own, and some clients send an empty one.
    """
    given = headers.get(b"authorization", b"")
    scheme, _, secret = given.partition(b" ")
    secret = secret.strip()
    if scheme.lower() != b"bearer" or not secret:
        secret = headers.get(b"x-api-key", b"").strip()
    if not secret and given:
        raise Unauthenticated("the Authorization header is not of the form 'Bearer <key>'", _HINT)
    if not secret:
        raise Unauthenticated("no API key was given", _HINT)
    if len(secret) > _MAX_KEY_BYTES:
        raise Unauthenticated("the API key is too long", _HINT)
    return secret


def may_call(caller: Caller, deployment: Deployment) -> bool:
    """Whether ``caller`` may use ``deployment``, and may know that it exists."""
    if deployment.account_id != caller.account.id:
        return False
    return not caller.key.deployments or deployment.name in caller.key.deployments


def find_deployment(caller: Caller, name: object, view: FleetView) -> Deployment:
    """Return the deployment called ``name``, or the caller's first one of the model ``name``.

    Raises: InvalidRequest for an invalid name; NotFound, also for another account's. Hot.
    """
    if not isinstance(name, str) or not name:
        raise _no_model_name(name)
    deployment = view.deployments.get(name)
    if deployment is not None and may_call(caller, deployment):
        return deployment
    if name in view.models:
        called = [
            one for one in view.deployments.values() if one.model == name and may_call(caller, one)
        ]
        if called:
            return min(called, key=_name_of)
    raise NotFound(
        f"the model {name[:128]!r} does not exist",
        "GET /v1/models lists what this key may call",
        code="model_not_found",
        param="model",
    )


def _name_of(deployment: Deployment) -> str:
    return deployment.name


def _no_model_name(given: object) -> InvalidRequest:
    message = "'model' is not a text with the name of a model"
    if given is None or given == "":
        message = "you must provide the parameter 'model'"
    return InvalidRequest(message, "GET /v1/models lists what this key may call", param="model")
