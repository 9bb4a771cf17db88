"""Routes of the client port: answers every request other than a generation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.formats import FORMATS
from agent.formats.errors import internal_error
from agent.formats.messages import MESSAGES
from agent.formats.registry import render_error
from agent.gateway.content_encoding import ACCEPTED_ENCODINGS, BodyDecoder
from agent.gateway.cors import preflight_headers
from agent.gateway.head_gate import caller_of
from agent.gateway.models import ModelsApi, is_anthropic
from agent.relay.request_target import request_path
from protos.domain.errors import (
    EdgeForgeError,
    InvalidRequest,
    NotFound,
    UnsupportedEncoding,
)

if TYPE_CHECKING:
    from agent.gateway.context import GatewayContext
    from agent.gateway.health import Health
    from agent.relay.connections import Answer
    from agent.relay.messages import Request

_log = logging.getLogger(__name__)

_GENERATION_METHODS = ("POST", "OPTIONS")
_READING_METHODS = ("GET", "HEAD", "OPTIONS")


#: Counts bytes of a request's body. Raises: Overloaded.
Hold = Callable[["Request", int], None]


class ClientRoutes:
    """Finds the route of a request, and answers all but generation.

    ``hold`` counts what a body has more once it is decoded.
    """

    def __init__(
        self, gateway: GatewayContext, health: Health, max_body_bytes: int, hold: Hold
    ) -> None:
        self._gateway = gateway
        self._health = health
        self._models = ModelsApi(gateway)
        self._decoder = BodyDecoder(max_body_bytes)
        self._hold = hold

    async def answer(self, request: Request) -> Answer | None:
        """Return the response to ``request``, or None for a generation.

        A generation's path is normalised and its body decoded; the caller must handle it.
        """
        try:
            request.path = path = request_path(request.target)
            if path in FORMATS and request.method == "POST":
                await self._decode(request)
                return None
            return self._answer(request, path)
        except UnsupportedEncoding as unsupported:
            status, headers, body = render_error(unsupported, _words(request))
            return status, [*headers, (b"accept-encoding", ACCEPTED_ENCODINGS)], body
        except EdgeForgeError as error:
            return render_error(error, _words(request))
        except Exception:
            _log.exception("request failed trace_id=%s", request.trace_id)
            return render_error(internal_error(), _words(request))

    def _answer(self, request: Request, path: str) -> Answer:
        if preflight := preflight_headers(request) if request.method == "OPTIONS" else []:
            return 204, preflight, b""
        methods = self._methods(request, path)
        if request.method == "OPTIONS":
            return 204, [(b"allow", ", ".join(methods).encode())], b""
        if request.method not in methods:
            return _method_not_allowed(request, methods)
        if self._health.serves(path):
            return self._health.answer(path)
        return self._models.answer(request)

    def _methods(self, request: Request, path: str) -> tuple[str, ...]:
        """Return the methods of a known route. Raises: NotFound for any other."""
        if path in FORMATS:
            return _GENERATION_METHODS
        if self._health.serves(path) or self._models.serves(path):
            return _READING_METHODS
        asked = request.target.partition(b"?")[0][:200].decode("latin-1")
        raise NotFound(
            f"unknown route: {request.method} {asked}",
            f"POST {', '.join(FORMATS)} and GET /v1/models are served",
            code="unknown_url",
        )

    async def _decode(self, request: Request) -> None:
        encoding = request.headers.get(b"content-encoding")
        if encoding is None:
            return
        gateway = self._gateway
        # Decoding costs time and memory, so the client must have a valid key first.
        caller = caller_of(request, gateway, gateway.state.view())
        decoded = await self._decoder.decode(encoding, request.body, caller.account.id)
        self._hold(request, max(0, len(decoded) - len(request.body)))
        request.body = decoded


def render_refusal(error: EdgeForgeError, path: str) -> Answer:
    """Return the response to a request that could not be read; ``path`` is not decoded yet."""
    try:
        path = request_path(path.encode("latin-1"))
    except InvalidRequest:
        path = ""
    return render_error(error, path)


def _words(request: Request) -> str:
    """Return the path whose API format an error must have."""
    if request.path not in FORMATS and is_anthropic(request):
        return MESSAGES.path
    return request.path


def _method_not_allowed(request: Request, methods: tuple[str, ...]) -> Answer:
    allowed = ", ".join(methods)
    error = InvalidRequest(f"{request.method} is not allowed on this route", f"use {allowed}")
    status, headers, body = render_error(error, _words(request), 405)
    return status, [*headers, (b"allow", allowed.encode())], body
