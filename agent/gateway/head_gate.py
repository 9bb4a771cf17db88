"""Decides by a request's head whether its body may come: strangers' bodies are not read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.formats import FORMATS
from agent.gateway.authentication import authenticate
from agent.relay.request_target import request_path
from protos.domain.errors import EdgeForgeError, InvalidRequest
from protos.domain.key_scopes import check_scopes

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.formats import ApiFormat
    from agent.gateway.authentication import Caller
    from agent.gateway.context import GatewayContext
    from agent.relay.messages import Request
    from protos.domain.fleet_view import FleetView

#: A body for a route that takes none, with or without a key.
MAX_USELESS_BODY_BYTES = 16 * 1024


@dataclass(slots=True)
class Admitted:
    """A caller, and the table by which it was authenticated."""

    view: FleetView
    caller: Caller


class HeadGate:
    """``refused`` is told of each generation that is refused by its head."""

    def __init__(
        self,
        gateway: GatewayContext,
        max_body_bytes: int,
        refused: Callable[[ApiFormat, Request, EdgeForgeError], None],
    ) -> None:
        self._gateway = gateway
        self._max_body_bytes = max_body_bytes
        self._refused = refused

    def admit(self, request: Request, _context: object) -> int:
        """Return how large the body may be. Hot.

        Raises: Unauthenticated, Forbidden, Misdirected; what ``AccountLimits.check_head`` raises.
        """
        api = FORMATS.get(request.path) or _respelled(request)
        if api is None or request.method != "POST":
            return MAX_USELESS_BODY_BYTES
        gateway = self._gateway
        view = gateway.state.view()
        try:
            caller = authenticated(request, gateway, view, api.path)
            gateway.account_limits.check_head(caller.account, gateway.now_mono_ms())
        except EdgeForgeError as error:
            self._refused(api, request, error)
            raise
        request.admitted = Admitted(view, caller)
        request.body_owner = caller.account.id
        return self._max_body_bytes


def caller_of(request: Request, gateway: GatewayContext, view: FleetView) -> Caller:
    """Return who sent ``request``: as its head was admitted, unless something has changed since.

    Its body may have taken a minute, in which the table changes and a key expires.

    Raises: Unauthenticated, Forbidden, Misdirected; what ``AccountLimits.check_head`` raises. Hot.
    """
    admitted = request.admitted
    if isinstance(admitted, Admitted) and admitted.view is view:
        ends_unix_ms = admitted.caller.key.expires_unix_ms
        if not ends_unix_ms or gateway.now_unix_ms() < ends_unix_ms:
            return admitted.caller
    caller = authenticated(request, gateway, view, request.path)
    gateway.account_limits.check_head(caller.account, gateway.now_mono_ms())
    return caller


def authenticated(
    request: Request, gateway: GatewayContext, view: FleetView, path: str = ""
) -> Caller:
    """Return who sent ``request``, if the key may be used for ``path`` and from where it comes.

    An empty ``path`` is open to every key.
    Raises: Unauthenticated, Forbidden, Misdirected; what ``AccountLimits.check_head`` raises. Hot.
    """
    caller = authenticate(
        request.headers,
        view,
        gateway.now_unix_ms(),
        gateway.require_credentials,
        gateway.state.node_id,
    )
    key = caller.key
    if key.endpoints or key.origins:
        check_scopes(key, path, request.client_host)
    return caller


def _respelled(request: Request) -> ApiFormat | None:
    """Return the format that a target names which is not spelled as usual."""
    try:
        return FORMATS.get(request_path(request.target))
    except InvalidRequest:
        return None
