"""Cross-origin requests of browsers: which origins may read responses, and what they may send.

Credentials are never allowed: a page sends its key itself. Source: WHATWG Fetch, "CORS protocol".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.relay.messages import Header, Request

#: Allows every origin.
ANY_ORIGIN = "*"

#: Response headers that a page may read beside those that every page may.
_EXPOSED = b", ".join(
    (
        b"x-request-id",
        b"request-id",
        b"x-edgeforge-trace-id",
        b"x-edgeforge-node",
        b"x-edgeforge-tier",
        b"x-edgeforge-cost-usd",
        b"x-edgeforge-predicted-miss",
        b"server-timing",
        b"retry-after",
    )
)
_ALLOWED_METHODS: Header = (b"access-control-allow-methods", b"GET, HEAD, POST, OPTIONS")
#: How long a browser may remember a preflight: browsers cap it at two hours.
_MAX_AGE: Header = (b"access-control-max-age", b"7200")
_DEFAULT_ALLOWED_HEADERS = b"authorization, content-type, x-api-key"
#: Names of headers, comma-separated. Source: RFC 9110, 5.6.2.
_HEADER_NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?: *, *[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
_MAX_HEADER_NAMES_BYTES = 4_096


class Cors:
    """Headers for the configured ``origins``: exact ones, or ``*``."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._by_origin: dict[bytes, tuple[Header, ...]] = {}
        self._any: tuple[Header, ...] = ()
        for origin in origins:
            if origin == ANY_ORIGIN:
                self._any = _headers(b"*")
            else:
                self._by_origin[origin.encode()] = _headers(origin.encode())

    def headers_for(self, origin: bytes) -> tuple[Header, ...]:
        """Return the headers for a response to ``origin``; empty if it is not allowed."""
        return self._by_origin.get(origin, self._any)


def preflight_headers(request: Request) -> list[Header]:
    """Return the headers of a preflight response in addition to ``request.cors_headers``.

    Empty for other requests, and for origins that are not allowed. All requested headers are
    allowed: without credentials, the page itself sets each of them.
    """
    if not request.cors_headers or b"access-control-request-method" not in request.headers:
        return []
    asked = request.headers.get(b"access-control-request-headers", b"").strip()
    if len(asked) > _MAX_HEADER_NAMES_BYTES or not _HEADER_NAMES.fullmatch(asked):
        asked = _DEFAULT_ALLOWED_HEADERS
    return [_ALLOWED_METHODS, (b"access-control-allow-headers", asked), _MAX_AGE]


def _headers(allowed: bytes) -> tuple[Header, ...]:
    return (
        (b"access-control-allow-origin", allowed),
        (b"vary", b"origin"),
        (b"access-control-expose-headers", _EXPOSED),
    )
