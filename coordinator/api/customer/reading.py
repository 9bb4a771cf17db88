"""Reads requests of customers: strict JSON within limits of size and time, queries, paths."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import BaseModel, ValidationError

from coordinator.api.customer.route import bad_params
from protos.domain.errors import (
    InvalidRequest,
    NotFound,
    RequestTimeout,
    TooLarge,
    UnsupportedEncoding,
)

if TYPE_CHECKING:
    from aiohttp import web

    from coordinator.api.customer.route import Route

MAX_BODY_BYTES = 64 * 1024
#: From the head of a request to the end of its body.
BODY_TIMEOUT_S = 10.0
_SHOWN_PROBLEMS = 5
_MAX_QUERY_CHARS = 2_000


async def body_of(request: web.Request, route: Route) -> BaseModel | None:
    """Return a route's body. Raises: InvalidRequest, TooLarge, RequestTimeout, 415."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedEncoding("a body with a Content-Encoding is not taken", "send it as it is")
    if route.body is None:
        if request.can_read_body:
            raise InvalidRequest(f"{request.method} takes no body here", "leave the body out")
        return None
    if request.content_type != "application/json":
        raise UnsupportedEncoding(
            "the body is not of the type application/json", "send Content-Type: application/json"
        )
    data = await read_limited(request, MAX_BODY_BYTES)
    _check_json(data)
    try:
        return route.body.model_validate_json(data)
    except ValidationError as error:
        raise _refused(error, "the body") from None


def query_of(request: web.Request, route: Route) -> BaseModel | None:
    """Return a route's query. Raises: InvalidRequest."""
    query = request.query
    if len(request.query_string) > _MAX_QUERY_CHARS:
        raise InvalidRequest(f"the query is longer than {_MAX_QUERY_CHARS} characters")
    if route.query is None:
        if query:
            raise InvalidRequest("no query is taken here", "leave out what is behind the '?'")
        return None
    if len(set(query)) != len(query):
        raise InvalidRequest("a parameter is given twice", "give it once")
    try:
        return route.query.model_validate(dict(query))
    except ValidationError as error:
        raise _refused(error, "the query") from None


def params_of(request: web.Request, route: Route) -> dict[str, str]:
    """Return the parts of the path. Raises: NotFound for what can name nothing."""
    values = {name: request.match_info[name] for name in route.param_names}
    if bad_params(route, values):
        raise NotFound("there is nothing of this name")
    return values


async def read_limited(request: web.Request, most_bytes: int) -> bytes:
    """Return a whole body. Raises: TooLarge, RequestTimeout."""
    if (request.content_length or 0) > most_bytes:
        raise _too_large(most_bytes)
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.content.iter_any():
                data += chunk
                if len(data) > most_bytes:
                    raise _too_large(most_bytes)
    except TimeoutError:
        raise RequestTimeout(f"the body took more than {BODY_TIMEOUT_S:.0f} s") from None
    return bytes(data)


def _too_large(most_bytes: int) -> TooLarge:
    return TooLarge(f"the body has more than {most_bytes} bytes", "send less")


def _check_json(data: bytes) -> None:
    """Refuse what parsers read differently: names given twice, NaN. Raises: InvalidRequest."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise InvalidRequest("a name is given twice in the body", "give it once")
        return found

    def number(text: str) -> NoReturn:
        raise InvalidRequest(f"{text} is no number of JSON")

    try:
        json.loads(data, object_pairs_hook=once, parse_constant=number)
    except (ValueError, RecursionError):
        raise InvalidRequest("the body is not JSON", "send an object in UTF-8") from None


def _refused(error: ValidationError, what: str) -> InvalidRequest:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    said = [
        f"{'.'.join(str(part)[:40] for part in one['loc']) or what}: {one['msg'][:200]}"
        for one in problems[:_SHOWN_PROBLEMS]
    ]
    more = len(problems) - _SHOWN_PROBLEMS
    return InvalidRequest(
        f"{what} is not as it must be: {'; '.join(said)}" + (f"; and {more} more" * (more > 0)),
        "GET /openapi.json describes it",
    )
