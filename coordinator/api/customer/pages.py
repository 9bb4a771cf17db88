"""Pages of lists: items in order, and a cursor that says where the next page begins. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from protos.domain.errors import InvalidRequest

T = TypeVar("T")

#: Begins every cursor, which is then never empty.
_MARK = b"1:"


def page_of(
    items: Sequence[T], key: Callable[[T], str], limit: int, cursor: str
) -> tuple[Sequence[T], str]:
    """Return the items behind a cursor and the cursor of the next page; empty: there is none.

    ``key`` orders the items and is one item's alone. Raises: InvalidRequest.
    """
    after = _decoded(cursor) if cursor else None
    ordered = sorted(items, key=key)
    rest = ordered if after is None else [one for one in ordered if key(one) > after]
    page = rest[:limit]
    return page, _encoded(key(page[-1])) if len(rest) > limit else ""


def _encoded(text: str) -> str:
    return base64.urlsafe_b64encode(_MARK + text.encode()).rstrip(b"=").decode()


def _decoded(cursor: str) -> str:
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        decoded = base64.b64decode(padded, altchars=b"-_", validate=True)
        if decoded.startswith(_MARK):
            return decoded.removeprefix(_MARK).decode()
    except (binascii.Error, ValueError):
        pass
    raise InvalidRequest(
        "this cursor is not one of ours", "use `next` of the page before", param="cursor"
    )
