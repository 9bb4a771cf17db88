"""Bodies that are too large to be examined at once: in steps, with the event loop between them."""

from __future__ import annotations

import asyncio

from agent.formats.body import parse_body
from agent.formats.json_size import COUNTED_FROM_BYTES, STEP_BYTES, JsonSize


async def give_way() -> None:
    """Let the event loop read what has arrived, and in its next turn answer it."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def contains(body: bytes, marks: tuple[bytes, ...]) -> bool:
    """Return whether any of ``marks`` is in ``body``: 3 ms a MiB where a text looks like them."""
    overlap = max(map(len, marks)) - 1
    for at in range(0, len(body), STEP_BYTES):
        piece = body[at : at + STEP_BYTES + overlap]
        if any(mark in piece for mark in marks):
            return True
        await give_way()
    return False


async def count_values(body: bytes) -> None:
    """Refuse a JSON text with too many values before it is parsed. Raises: InvalidRequest.

    Small texts pass uncounted.
    """
    if len(body) < COUNTED_FROM_BYTES:
        return
    size = JsonSize()
    for at in range(0, len(body), STEP_BYTES):
        size.feed(body[at : at + STEP_BYTES])
        await give_way()


async def fields_of_large(body: bytes) -> dict[str, object] | None:
    """Return the fields of a large body, read in steps; None for a small one, to be read at once.

    Raises: InvalidRequest.
    """
    if len(body) < COUNTED_FROM_BYTES:
        return None
    await count_values(body)
    fields = parse_body(body)
    await give_way()
    return fields
