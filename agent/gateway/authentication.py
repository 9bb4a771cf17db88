"""Authentication by API key, from the table in memory, and the deployments that a key may call."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.errors import InvalidRequest, NotFound, Unauthenticated

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
) -> Caller:
    """Return the key in ``headers`` and its account.

    Raises: Unauthenticated; what ``require_credentials`` raises while keys cannot be checked here.
    """
    secret = _given_key(headers)
    require_credentials()
    key = view.keys.get(hashlib.sha256(secret).digest())
    if key is None:
        raise Unauthenticated("incorrect API key", _HINT)
    if 0 < key.expires_unix_ms <= now_unix_ms:
        raise Unauthenticated("this API key has expired", "create another key")
    account = view.accounts.get(key.account_id)
    if account is None:
        raise Unauthenticated("this API key belongs to no account", _HINT)
    return Caller(key, account)


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
