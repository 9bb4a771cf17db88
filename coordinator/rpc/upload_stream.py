"""Messages of an upload, each waited for no longer than a client may be silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol, TypeVar

from coordinator.blobs.interface import CHUNK_BYTES
from protos.domain.errors import DeadlineExceeded, TooLarge

#: Longest silence of an upload.
UPLOAD_IDLE_S = 60.0

T = TypeVar("T")


class _HasData(Protocol):
    @property
    def data(self) -> bytes: ...


D = TypeVar("D", bound=_HasData)


async def next_message(messages: AsyncIterator[T]) -> T | None:
    """Return the next message, None at the end. Raises: DeadlineExceeded."""
    try:
        async with asyncio.timeout(UPLOAD_IDLE_S):
            return await anext(messages, None)
    except TimeoutError:
        raise DeadlineExceeded(
            f"the upload was silent for {UPLOAD_IDLE_S:.0f} s", "run the import again"
        ) from None


async def data_of(first: D, rest: AsyncIterator[D]) -> AsyncIterator[bytes]:
    """Yield the bytes of an upload's messages. Raises: TooLarge, DeadlineExceeded."""
    message: D | None = first
    while message is not None:
        if len(message.data) > CHUNK_BYTES:
            raise TooLarge(f"a message of an upload holds at most {CHUNK_BYTES} bytes")
        if message.data:
            yield message.data
        message = await next_message(rest)
