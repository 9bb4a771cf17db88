"""What a request takes in memory while it arrives."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest

from agent.relay.messages import Request
from agent.relay.reading import RequestReader
from tests.support.served import LIMITS

SIZE_BYTES = 400_000
HEAD = b"POST / HTTP/1.1\r\nhost: x\r\n"


class Sink:
    """Lets every body come."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def on_request_begin(self, now_mono_ms: float) -> None: ...

    def on_request_head(
        self, request: Request, now_mono_ms: float, *, expects_continue: bool
    ) -> int:
        return 2 * SIZE_BYTES

    def on_body_bytes(self, request: Request, size_bytes: int) -> None: ...

    def on_request(self, request: Request) -> None:
        self.requests.append(request)


def pieces(*, chunked: bool) -> list[bytes]:
    """Return a body of two bytes a piece, after its head."""
    if chunked:
        many = b"2\r\nab\r\n" * (SIZE_BYTES // 2) + b"0\r\n\r\n"
        return [HEAD + b"transfer-encoding: chunked\r\n\r\n", many]
    return [HEAD + b"content-length: %d\r\n\r\n" % SIZE_BYTES, *[b"ab"] * (SIZE_BYTES // 2)]


@pytest.mark.parametrize("chunked", [True, False], ids=["chunks", "segments"])
def test_a_body_in_pieces_of_two_bytes_takes_little_more_than_its_size(chunked: bool) -> None:
    """The budget of bodies counts bytes: an object for each piece took 20 times as much."""
    limits = replace(LIMITS, max_body_bytes=4 * SIZE_BYTES)
    sink = Sink()
    reader = RequestReader(limits, lambda: 1.0, sink)
    sent = pieces(chunked=chunked)
    tracemalloc.start()
    try:
        for piece in sent:
            reader.feed(piece)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sink.requests[0].body == b"ab" * (SIZE_BYTES // 2)
    assert peak_bytes < 4 * SIZE_BYTES
