"""How a request is written to an engine or a peer."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from agent.relay.upstream import SLICE_BYTES, UpstreamConnection


class Written(asyncio.Transport):
    """A transport that remembers what was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.cut = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered."""

    def is_closing(self) -> bool:
        return self.cut

    def abort(self) -> None:
        self.cut = True


class Sink:
    """Takes any response."""

    completed = False

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None: ...
    def on_body(self, data: bytes) -> None: ...
    def on_read_end(self) -> None: ...
    def on_trailers(self, trailers: list[tuple[bytes, bytes]]) -> None: ...
    def on_lost(self, reason: str, *, answered: bool) -> None: ...
    def on_complete(self) -> None:
        self.completed = True


def connected() -> tuple[UpstreamConnection, Written]:
    connection, transport = UpstreamConnection(lambda _closed: None), Written()
    connection.connection_made(cast("asyncio.BaseTransport", transport))
    return connection, transport


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_large_request_stalls_the_loop_for_one_slice_at_a_time() -> None:
    connection, transport = connected()
    request = bytes(range(256)) * (3 * SLICE_BYTES // 256) + b"end"
    connection.send(request, Sink())
    assert len(transport.pieces) == 1, "the rest waits for the loop's next turns"
    await turns(8)
    assert max(map(len, transport.pieces)) == SLICE_BYTES
    assert b"".join(transport.pieces) == request


@pytest.mark.parametrize("size_bytes", [1, SLICE_BYTES])
async def test_any_other_request_is_written_at_once(size_bytes: int) -> None:
    connection, transport = connected()
    connection.send(b"x" * size_bytes, Sink())
    assert transport.pieces == [b"x" * size_bytes]


async def test_a_large_request_that_is_cut_is_not_written_further() -> None:
    connection, transport = connected()
    connection.send(b"x" * (3 * SLICE_BYTES), Sink())
    connection.abort()
    await turns(8)
    assert len(transport.pieces) == 1


async def test_a_connection_whose_request_was_answered_before_its_end_is_not_used_again() -> None:
    connection, transport = connected()
    sink = Sink()
    connection.send(b"x" * (3 * SLICE_BYTES), sink)
    connection.data_received(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
    assert sink.completed
    assert not connection.reusable
    assert transport.cut
    await turns(8)
    assert len(transport.pieces) == 1
