"""The OpenAPI 3.1 document of a table of routes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from coordinator.api.customer.problems import ProblemBody

if TYPE_CHECKING:
    from pydantic import BaseModel

    from coordinator.api.customer.route import Route

OPENAPI = "3.1.0"
_REF = "#/components/schemas/{model}"
_SCHEME = "token"
_DESCRIPTION = (
    "What an account does itself. Tokens are of members and begin with efm-; API keys, which begin"
    " with ef-, are for inference only. Money is in integers of nano-USD, times are milliseconds"
    " since 1970 UTC. Lists are in pages: `next` of a page is the `cursor` of the one behind it."
)
#: Statuses of every operation, and their meaning.
_REFUSALS = {
    400: "The request is not as it must be.",
    404: "There is nothing of this name, or it is another account's.",
    429: "Too many requests; `Retry-After` says how long to wait.",
    503: "The coordinator cannot write or ask now; try again.",
}
_OF_BODIES = {
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body is not of the type application/json.",
}
_WITH_TOKEN = {
    401: "No valid token.",
    403: "The role, or the state of the account, does not allow it.",
}


def document(routes: Sequence[Route], version: str, *, server: str = "") -> dict[str, Any]:
    """Return the document; ``server`` is the origin of the API."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": OPENAPI,
        "info": {"title": "EdgeForge", "version": version, "description": _DESCRIPTION},
        **({"servers": [{"url": server}]} if server else {}),
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": {
            "schemas": _schemas(routes),
            "securitySchemes": {
                _SCHEME: {"type": "http", "scheme": "bearer", "description": "efm-..."}
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": _responses(route),
        "security": [{_SCHEME: []}] if route.act is not None else [],
    }
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _json_of(route.body)}
    return operation


def _path_parameters(route: Route) -> Iterable[dict[str, Any]]:
    for name in route.param_names:
        param = route.params[name]
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": param.text,
            "schema": {"type": "string", "pattern": f"^{param.pattern}$"},
            "example": param.example,
        }


def _query_parameters(route: Route) -> Iterable[dict[str, Any]]:
    if route.query is None:
        return
    schema = route.query.model_json_schema(ref_template=_REF)
    for name, about in schema["properties"].items():
        yield {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "description": about.pop("description", ""),
            "schema": about,
        }


def _responses(route: Route) -> dict[str, Any]:
    said: dict[str, Any] = {"description": route.summary}
    if route.downloads:
        schema = {"type": "string", "format": "binary"}
        said["content"] = {kind: {"schema": schema} for kind in route.downloads}
    elif route.answer is not None:
        said["content"] = _json_of(route.answer)
    refusals = {
        **_REFUSALS,
        409: "Something else holds the name, or it was changed meanwhile.",
        **(_OF_BODIES if route.body is not None else {}),
        **(_WITH_TOKEN if route.act is not None else {403: "Not allowed as configured."}),
    }
    return {
        str(route.status): said,
        **{
            str(status): {"description": text, "content": _json_of(ProblemBody)}
            for status, text in sorted(refusals.items())
        },
        "default": {"description": "Another refusal.", "content": _json_of(ProblemBody)},
    }


def _json_of(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}


def _schemas(routes: Sequence[Route]) -> dict[str, Any]:
    bodies = {route.body for route in routes if route.body is not None}
    answers = {route.answer for route in routes if route.answer is not None} | {ProblemBody}
    _, found = models_json_schema(
        [
            *((one, "validation") for one in sorted(bodies, key=lambda one: one.__name__)),
            *((one, "serialization") for one in sorted(answers, key=lambda one: one.__name__)),
        ],
        ref_template=_REF,
    )
    definitions: dict[str, Any] = found["$defs"]
    return definitions
