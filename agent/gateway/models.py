"""``/v1/models``: the models that a key may call, in OpenAI's and in Anthropic's format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from agent.gateway.authentication import find_deployment, may_call
from agent.gateway.head_gate import authenticated
from protos.domain.context_limit import served_context_tokens

if TYPE_CHECKING:
    from agent.gateway.context import GatewayContext
    from agent.relay.connections import Answer
    from agent.relay.messages import Request
    from protos.domain.fleet_view import FleetView
    from protos.domain.resources import Deployment

_JSON = (b"content-type", b"application/json")
_PATH = "/v1/models"


class ModelsApi:
    """Answers the two routes. Raises: EdgeForgeError."""

    def __init__(self, gateway: GatewayContext) -> None:
        self._gateway = gateway

    def serves(self, path: str) -> bool:
        """Whether ``path`` is one of these routes."""
        return path == _PATH or path.startswith(_PATH + "/")

    def answer(self, request: Request) -> Answer:
        """Return the response to ``request``, for the list or for one model."""
        gateway = self._gateway
        view = gateway.state.view()
        caller = authenticated(request, gateway, view)
        describe = _anthropic_model if is_anthropic(request) else _openai_model
        name = request.path[len(_PATH) + 1 :]
        if name:
            found = find_deployment(caller, name, view)
            return 200, [_JSON], orjson.dumps(describe(found, name, view))
        called = [one for one in view.deployments.values() if may_call(caller, one)]
        listed = [describe(one, one.name, view) for one in called]
        if not is_anthropic(request):
            return 200, [_JSON], orjson.dumps({"object": "list", "data": listed})
        first, last = (called[0].name, called[-1].name) if called else (None, None)
        page = {"data": listed, "has_more": False, "first_id": first, "last_id": last}
        return 200, [_JSON], orjson.dumps(page)


def is_anthropic(request: Request) -> bool:
    """Whether an Anthropic client sent ``request``; OpenAI clients use the same path."""
    return b"anthropic-version" in request.headers


def _openai_model(deployment: Deployment, name: str, view: FleetView) -> dict[str, object]:
    """``max_model_len`` is vLLM's addition: the tokens of prompt and completion together."""
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": deployment.account_id,
        "root": deployment.model,
        "max_model_len": served_context_tokens(view, deployment.model),
        "ttft_budget_ms": deployment.ttft_budget_ms,
    }


def _anthropic_model(deployment: Deployment, name: str, view: FleetView) -> dict[str, object]:
    """Source: Anthropic's API reference, "List Models"; an unknown date is the epoch."""
    return {
        "id": name,
        "type": "model",
        "display_name": deployment.name,
        "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": served_context_tokens(view, deployment.model),
    }
