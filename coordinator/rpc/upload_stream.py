"""Messages of an upload, each waited for no longer than a client may be silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final, TypeVar

from protos.domain.errors import DeadlineExceeded

#: Longest silence of an upload.
UPLOAD_IDLE_S: Final = 60.0

T = TypeVar("T")


async def next_message(messages: AsyncIterator[T], idle_s: float = UPLOAD_IDLE_S) -> T | None:
    """Return the next message, None at the end. Raises: DeadlineExceeded."""
    try:
        async with asyncio.timeout(idle_s):
            return await anext(messages, None)
    except TimeoutError:
        raise DeadlineExceeded(
            f"the upload was silent for {idle_s:.0f} s", "run the import again"
        ) from None
