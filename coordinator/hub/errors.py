"""Errors as the hub's clients expect them: a status, and headers that name the reason."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from coordinator import clock
from protos.domain.errors import (
    ConfigInvalid,
    EdgeForgeError,
    Unauthenticated,
)

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware

    from protos.domain.log_rate import LogRate

_log = logging.getLogger(__name__)

REPO_NOT_FOUND = "RepoNotFound"
REVISION_NOT_FOUND = "RevisionNotFound"
ENTRY_NOT_FOUND = "EntryNotFound"
#: huggingface_hub shows a 401 with any other text as a repository that is not found.
_INVALID_CREDENTIALS = "Invalid credentials in Authorization header"
_MAX_HEADER_CHARS = 1_000
_MAX_RETRY_AFTER_S = 60

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def error_response(error: EdgeForgeError) -> web.Response:
    """Return ``error`` as a client of the hub shows it: message and hint, no traceback."""
    text = str(error)
    headers = {"X-Error-Message": _header_text(text), "Cache-Control": "no-store"}
    if isinstance(error, Unauthenticated):
        headers["X-Error-Message"] = _INVALID_CREDENTIALS
        headers["WWW-Authenticate"] = 'Bearer realm="edgeforge"'
    elif error.code and error.http_status in (401, 404):
        headers["X-Error-Code"] = error.code
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(min(_MAX_RETRY_AFTER_S, max(1, round(error.retry_after_s))))
    return web.Response(
        status=error.http_status,
        body=orjson.dumps({"error": text}),
        content_type="application/json",
        headers=headers,
    )


def translated(log_rate: LogRate) -> Middleware:
    """Return a middleware that answers errors of ours, and faults without their text."""

    @web.middleware
    async def translate(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except EdgeForgeError as error:
            if isinstance(error, ConfigInvalid):
                raise
            response = error_response(error)
            if request.can_read_body:
                response.force_close()  # what was not read is not worth reading
            return response
        except (web.HTTPException, ConnectionError):
            raise
        except Exception as error:
            left_out = log_rate.take("hub", clock.now_mono_ms())
            if left_out is not None:
                _log.error("hub request failed left_out=%d", left_out, exc_info=error)
            fault = EdgeForgeError("this is a fault of the coordinator", "its log has more")
            response = error_response(fault)
            response.force_close()
            return response

    return translate


def _header_text(text: str) -> str:
    """Return printable ASCII of ``text``, which may repeat what a stranger wrote."""
    shown = "".join(one if " " <= one <= "~" else "?" for one in text)
    return shown[:_MAX_HEADER_CHARS]
