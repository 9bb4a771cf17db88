"""Fetches a small response from a peer into memory, for probes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from protos.domain.errors import LinkDown, TooLarge

if TYPE_CHECKING:
    from agent.relay.messages import Header
    from agent.relay.upstream_pool import UpstreamPool

_MAX_BYTES = 1024 * 1024


class _Collector:
    """Gathers one response. Implements ``ResponseSink``."""

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status = 0
        self.parts: list[bytes] = []
        self.size_bytes = 0
        self.stale = False

    def on_head(self, status: int, headers: list[Header]) -> None:
        self.status = status

    def on_body(self, data: bytes) -> None:
        self.size_bytes += len(data)
        if self.size_bytes <= _MAX_BYTES:
            self.parts.append(data)

    def on_read_end(self) -> None:
        if self.size_bytes > _MAX_BYTES and not self.done.done():
            self.done.set_exception(TooLarge(f"a peer's answer over {_MAX_BYTES} bytes"))

    def on_trailers(self, trailers: list[Header]) -> None:
        """Nothing is told behind a body."""

    def on_complete(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def on_lost(self, reason: str, *, answered: bool) -> None:
        self.stale = not answered
        if not self.done.done():
            self.done.set_exception(LinkDown(reason))


async def fetch_response(
    pool: UpstreamPool, request: bytes, timeout_ms: float
) -> tuple[int, bytes]:
    """Return status and body of a small response. Raises: LinkDown, TooLarge, TimeoutError.

    A kept-alive connection that was already closed is replaced once.
    """
    async with asyncio.timeout(timeout_ms / 1_000):
        kept = pool.take_nowait()
        while True:
            connection = kept if kept is not None else await pool.dial()
            sink = _Collector()
            connection.send(request, sink)
            try:
                await sink.done
            except LinkDown:
                connection.abort()
                if kept is None or not sink.stale:
                    raise
                kept = None
                continue
            except BaseException:
                connection.abort()
                raise
            pool.give_back(connection)
            return sink.status, b"".join(sink.parts)
