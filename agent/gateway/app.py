"""Everything of the client port that generates nothing: an aiohttp application."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from agent.formats import FORMATS
from agent.formats.errors import internal_error
from agent.formats.messages import MESSAGES
from agent.formats.registry import render_error
from agent.gateway.authentication import Caller, authenticate, find_deployment, may_call
from protos.domain.errors import EdgeForgeError, InvalidRequest, NotFound

if TYPE_CHECKING:
    from agent.gateway.context import GatewayContext
    from protos.domain.fleet_view import FleetView
    from protos.domain.resources import Deployment

_log = logging.getLogger(__name__)

_NO_ENDS = {"first_id": None, "last_id": None}

_Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(around: GatewayContext) -> web.Application:
    """Return the application behind the relay's hand-off."""
    api = _ModelsApi(around)
    app = web.Application(middlewares=[_shaped_errors])
    app.router.add_get("/v1/models", api.list_models)
    app.router.add_get("/v1/models/{name:.+}", api.get_model)
    return app


class _ModelsApi:
    def __init__(self, around: GatewayContext) -> None:
        self._around = around

    async def list_models(self, request: web.Request) -> web.Response:
        caller = self._caller(request)
        view = self._around.view()
        called = [one for one in view.deployments.values() if may_call(caller, one)]
        if not _is_anthropic(request):
            listed = [_model_object(one) for one in called]
            return web.json_response({"object": "list", "data": listed})
        data = [_anthropic_model_object(one, view) for one in called]
        ends = {"first_id": called[0].name, "last_id": called[-1].name} if called else {}
        return web.json_response({"data": data, "has_more": False} | _NO_ENDS | ends)

    async def get_model(self, request: web.Request) -> web.Response:
        caller = self._caller(request)
        view = self._around.view()
        found = find_deployment(caller, request.match_info["name"], view)
        if _is_anthropic(request):
            return web.json_response(_anthropic_model_object(found, view))
        return web.json_response(_model_object(found))

    def _caller(self, request: web.Request) -> Caller:
        around = self._around
        headers = {
            name.lower().encode("latin-1"): value.encode("utf-8", "surrogateescape")
            for name, value in request.headers.items()
        }
        return authenticate(
            headers,
            around.view(),
            around.now_unix_ms(),
            around.credentials_usable,
            takes_x_api_key=True,
        )


def _model_object(deployment: Deployment) -> dict[str, object]:
    return {
        "id": deployment.name,
        "object": "model",
        "created": 0,
        "owned_by": deployment.account_id,
        "root": deployment.model,
        "ttft_budget_ms": deployment.ttft_budget_ms,
    }


def _anthropic_model_object(deployment: Deployment, view: FleetView) -> dict[str, object]:
    """Source: Anthropic's API reference, "List Models"; an unknown date is the epoch."""
    model = view.models.get(deployment.model)
    return {
        "id": deployment.name,
        "type": "model",
        "display_name": deployment.name,
        "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": model.context_tokens if model is not None else None,
    }


def _is_anthropic(request: web.Request) -> bool:
    """Whether one of Anthropic's clients asks what both kinds ask on the same path."""
    return "anthropic-version" in request.headers


@web.middleware
async def _shaped_errors(request: web.Request, handler: _Next) -> web.StreamResponse:
    """Answer errors in the asker's words; the connection, given away by the relay, ends then."""
    words = MESSAGES.path if _is_anthropic(request) else request.path
    try:
        response = await handler(request)
    except EdgeForgeError as error:
        response = _error_response(error, words)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        wrong = InvalidRequest(f"{request.method} is not allowed here", f"use {allowed}")
        response = _error_response(wrong, words, status=405)
        response.headers["Allow"] = allowed
    except web.HTTPNotFound:
        unknown = NotFound(
            f"unknown route: {request.method} {request.path[:200]}",
            f"POST {', '.join(FORMATS)} and GET /v1/models are served",
            code="unknown_url",
        )
        response = _error_response(unknown, words)
    except web.HTTPException as error:
        response = _error_response(InvalidRequest(error.reason), words, status=error.status)
    except Exception:
        _log.exception("request failed path=%s", request.path)
        response = _error_response(internal_error(), words)
    response.force_close()
    return response


def _error_response(error: EdgeForgeError, path: str, status: int | None = None) -> web.Response:
    status, headers, body = render_error(error, path, status)
    pairs = {name.decode(): value.decode() for name, value in headers}
    return web.Response(status=status, headers=pairs, body=body)
