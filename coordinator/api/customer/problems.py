"""Errors as customers' programs read them: a status and ``{error: {code, message, hint}}``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp import web
from pydantic import Field

from coordinator import clock
from coordinator.api.customer.hints import customers_hint
from coordinator.api.customer.route import Model
from protos.domain.errors import (
    ConfigInvalid,
    Conflict,
    EdgeForgeError,
    Forbidden,
    InvalidRequest,
    NotFound,
    RequestTimeout,
    TooLarge,
    Unauthenticated,
    UnsupportedEncoding,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.typedefs import Middleware

    from protos.domain.log_rate import LogRate

_log = logging.getLogger(__name__)

_MAX_RETRY_AFTER_S = 3_600
_MAX_MESSAGE_CHARS = 2_000
_CODES: dict[type[EdgeForgeError], str] = {
    InvalidRequest: "invalid_request",
    Unauthenticated: "invalid_token",
    Forbidden: "forbidden",
    NotFound: "not_found",
    Conflict: "conflict",
    TooLarge: "too_large",
    UnsupportedEncoding: "unsupported_media_type",
    RequestTimeout: "request_timeout",
}


class Problem(Model):
    """What is wrong."""

    code: str = Field(description="For programs; stable.")
    message: str = Field(description="What failed.")
    hint: str = Field(description="What to do next; may be empty.")


class ProblemBody(Model):
    """The body of every answer with a status of 400 or more."""

    error: Problem


def problem_response(error: EdgeForgeError, status: int = 0) -> web.Response:
    """Return the answer to a request that failed."""
    body = ProblemBody(
        error=Problem(
            code=code_of(error),
            message=_readable(error.message),
            hint=_readable(customers_hint(error, error.hint)),
        )
    )
    response = web.Response(
        status=status or error.http_status,
        body=body.model_dump_json().encode(),
        content_type="application/json",
    )
    if isinstance(error, Unauthenticated):
        response.headers["WWW-Authenticate"] = 'Bearer realm="edgeforge"'
    if error.retry_after_s is not None:
        seconds = min(_MAX_RETRY_AFTER_S, max(1, round(error.retry_after_s)))
        response.headers["Retry-After"] = str(seconds)
    return response


def refusal(status: int) -> tuple[str, str]:
    """Return the answer to what is no request that can be read: its body and its type."""
    if status >= 500:
        problem = Problem(code="internal", message="this is a fault of ours", hint="")
    else:
        message = "the request cannot be read"
        problem = Problem(code="invalid_request", message=message, hint="its head may be too long")
    return ProblemBody(error=problem).model_dump_json(), "application/json"


def code_of(error: EdgeForgeError) -> str:
    """Return the code for programs."""
    if isinstance(error, Unauthenticated):
        return _CODES[Unauthenticated]
    if error.code:
        return error.code
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), "internal")


def answered(log_rate: LogRate) -> Middleware:
    """Return a middleware that answers errors of ours, and faults without their text."""

    @web.middleware
    async def answer(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except EdgeForgeError as error:
            if isinstance(error, ConfigInvalid):
                raise
            response = problem_response(error)
        except web.HTTPMethodNotAllowed as refused:
            allowed = ", ".join(sorted(refused.allowed_methods))
            wrong = InvalidRequest(f"{refused.method[:20]} is not allowed here", f"use {allowed}")
            wrong.code = "method_not_allowed"
            response = problem_response(wrong, 405)
            response.headers["Allow"] = allowed
        except web.HTTPNotFound:
            response = problem_response(
                NotFound("there is nothing at this address", "GET /openapi.json has all there is")
            )
        except web.HTTPException as refused:
            response = problem_response(InvalidRequest("the request is refused"), refused.status)
        except ConnectionError:
            raise
        except Exception as error:
            left_out = log_rate.take("api", clock.now_mono_ms())
            if left_out is not None:
                _log.error("request failed left_out=%d", left_out, exc_info=error)
            response = problem_response(EdgeForgeError("this is a fault of ours"))
        if request.can_read_body:
            response.force_close()  # what was not read is not worth reading
        return response

    return answer


def _readable(text: str) -> str:
    """Return text without what cannot be encoded: it may repeat what a stranger sent."""
    return text[:_MAX_MESSAGE_CHARS].encode("utf-8", "replace").decode()
