"""Bodies of requests to the hub: limited in size, in silence and in slowness."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from coordinator import clock
from coordinator.core.hub_commit import MAX_LINE_BYTES
from coordinator.core.hub_uploads import is_too_slow
from coordinator.core.strangers_json import parse
from protos.domain.errors import DeadlineExceeded, InvalidRequest, TooLarge

if TYPE_CHECKING:
    from coordinator.hub.errors import Handler

#: Longest silence of an upload.
UPLOAD_IDLE_S = 60.0
#: Whole body of a commit: its small files are in it.
MAX_COMMIT_BYTES = 64 * 1024**2


@web.middleware
async def readable(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a packed body, which may unpack to anything, and a Host that cannot be read."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise InvalidRequest("a body with a Content-Encoding is not taken", "send it as it is")
    try:
        request.url.origin()
    except ValueError:
        raise InvalidRequest("the Host header cannot be read") from None
    return await handler(request)


async def object_of(request: web.Request) -> dict[str, Any]:
    """Return a body of JSON; its size is limited by the application. Raises: InvalidRequest."""
    try:
        body = parse(await read_whole(request))
    except orjson.JSONDecodeError:
        raise InvalidRequest("the body is not JSON") from None
    if not isinstance(body, dict):
        raise InvalidRequest("the body is not a JSON object")
    return body


async def read_whole(request: web.Request) -> bytes:
    """Return a small body. Raises: TooLarge, DeadlineExceeded."""
    try:
        async with asyncio.timeout(UPLOAD_IDLE_S):
            return await request.read()
    except TimeoutError:
        raise DeadlineExceeded(f"the request took more than {UPLOAD_IDLE_S:.0f} s") from None
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge("the request is larger than this address takes") from None


async def _chunks_of(request: web.Request) -> AsyncIterator[bytes]:
    """Yield what arrives of a body. Raises: DeadlineExceeded."""
    began_mono_ms, received_bytes = clock.now_mono_ms(), 0
    while True:
        try:
            async with asyncio.timeout(UPLOAD_IDLE_S):
                chunk = await request.content.readany()
        except TimeoutError:
            raise DeadlineExceeded(
                f"the upload was silent for {UPLOAD_IDLE_S:.0f} s", "upload again"
            ) from None
        if not chunk:
            return
        received_bytes += len(chunk)
        if is_too_slow(received_bytes, clock.now_mono_ms() - began_mono_ms):
            raise DeadlineExceeded("the upload is too slow", "upload again")
        yield chunk


async def body_of(request: web.Request, size_bytes: int) -> AsyncIterator[bytes]:
    """Yield a body of exactly ``size_bytes``. Raises: InvalidRequest, DeadlineExceeded."""
    if request.content_length not in (None, size_bytes):
        raise InvalidRequest(f"{request.content_length} bytes are sent, {size_bytes} announced")
    received_bytes = 0
    async for chunk in _chunks_of(request):
        received_bytes += len(chunk)
        if received_bytes > size_bytes:
            raise InvalidRequest(f"more than the announced {size_bytes} bytes")
        yield chunk


async def after(chunks: AsyncIterator[bytes], skipped_bytes: int) -> AsyncIterator[bytes]:
    """Yield ``chunks`` without their first bytes."""
    async for chunk in chunks:
        cut = min(skipped_bytes, len(chunk))
        skipped_bytes -= cut
        if cut < len(chunk):
            yield chunk[cut:]


async def lines_of(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the lines of a body. Raises: TooLarge, DeadlineExceeded."""
    left, total_bytes = bytearray(), 0
    async for chunk in _chunks_of(request):
        total_bytes += len(chunk)
        if total_bytes > MAX_COMMIT_BYTES:
            raise TooLarge(f"a commit has at most {MAX_COMMIT_BYTES} bytes", "use LFS for files")
        start = len(left)
        left += chunk
        while (end := left.find(b"\n", start)) >= 0:
            yield bytes(left[:end])
            del left[: end + 1]
            start = 0
        if len(left) > MAX_LINE_BYTES:
            raise TooLarge(f"a line of a commit has at most {MAX_LINE_BYTES} bytes")
    yield bytes(left)
