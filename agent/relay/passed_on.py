"""Which headers of an engine's or a peer's response are passed on, and in which form.

All others are dropped: a target must not choose what a client's browser or cache does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.relay.messages import Header

#: The headers that are passed on, and what their value may be. Retry-After is in seconds or a date.
#: Sources: RFC 9110, 10.2.3 and 5.6.7; RFC 9111, 5.2.
_VALUES = {
    b"retry-after": re.compile(
        rb"[0-9]{1,9}|[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT"
    ),
    b"cache-control": re.compile(rb"[a-z-]+(=[0-9]{1,10})?(, ?[a-z-]+(=[0-9]{1,10})?){0,7}"),
}
_MAX_VALUE_BYTES = 128


def passed_on_headers(headers: list[Header]) -> list[Header]:
    """Return the headers to pass on, each at most once. Hot."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        allowed = _VALUES.get(name)
        if (
            allowed is not None
            and name not in found
            and len(value) <= _MAX_VALUE_BYTES
            and allowed.fullmatch(value)
        ):
            found[name] = value
    return list(found.items())
