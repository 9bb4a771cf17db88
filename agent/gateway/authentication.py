"""Who is asking: the key's digest is in the table, so nobody is called."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.errors import NotFound, Unauthenticated

if TYPE_CHECKING:
    from protos.domain.fleet_view import FleetView
    from protos.domain.resources import Account, ApiKey, Deployment

_MAX_KEY_BYTES = 512
_HINT = "send a valid key as 'Authorization: Bearer <key>'"


@dataclass(slots=True)
class Caller:
    """An authenticated key and its account. Written once; not frozen because it is hot."""

    key: ApiKey
    account: Account


def authenticate(
    headers: Mapping[bytes, bytes],
    view: FleetView,
    now_unix_ms: int,
    credentials_usable: Callable[[], bool],
    *,
    takes_x_api_key: bool = False,
) -> Caller:
    """Return who sent ``headers``; Anthropic's clients say so in ``x-api-key``.

    Raises: Unauthenticated.
    """
    secret = _given_key(headers, takes_x_api_key=takes_x_api_key)
    if not credentials_usable():
        raise Unauthenticated(
            "keys cannot be checked: this site has been cut off for too long",
            "use another site, or ask the operator to restore the link to the coordinator",
        )
    key = view.keys.get(hashlib.sha256(secret).digest())
    if key is None:
        raise Unauthenticated("incorrect API key", _HINT)
    if 0 < key.expires_unix_ms <= now_unix_ms:
        raise Unauthenticated("this API key has expired", "create another key")
    account = view.accounts.get(key.account_id)
    if account is None:
        raise Unauthenticated("this API key belongs to no account", _HINT)
    return Caller(key, account)


def _given_key(headers: Mapping[bytes, bytes], *, takes_x_api_key: bool) -> bytes:
    """Return the key in ``headers``; Authorization wins. Raises: Unauthenticated."""
    given = headers.get(b"authorization", b"")
    if not given and takes_x_api_key and (key := headers.get(b"x-api-key", b"").strip()):
        if len(key) > _MAX_KEY_BYTES:
            raise Unauthenticated("the x-api-key header holds no key", _HINT)
        return key
    if not given:
        raise Unauthenticated("no API key was given", _HINT)
    scheme, _, secret = given.partition(b" ")
    secret = secret.strip()
    if scheme.lower() != b"bearer" or not secret or len(secret) > _MAX_KEY_BYTES:
        raise Unauthenticated("the Authorization header is not of the form 'Bearer <key>'", _HINT)
    return secret


def may_call(caller: Caller, deployment: Deployment) -> bool:
    """Whether ``caller`` may use, or even know of, ``deployment``."""
    if deployment.account_id != caller.account.id:
        return False
    return not caller.key.deployments or deployment.name in caller.key.deployments


def find_deployment(caller: Caller, name: object, view: FleetView) -> Deployment:
    """Return the deployment called ``name``. Raises: NotFound, also for another account's."""
    deployment = view.deployments.get(name) if isinstance(name, str) else None
    if deployment is None or not may_call(caller, deployment):
        shown = repr(name[:128]) if isinstance(name, str) else f"of type {type(name).__name__}"
        raise NotFound(
            f"the model {shown} does not exist",
            "GET /v1/models lists what this key may call",
            code="model_not_found",
            param="model",
        )
    return deployment
