"""Requests are read the same however their bytes arrive, and hostile bytes are only refused."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.relay.limits import ServerLimits
from agent.relay.messages import Request, chunk
from agent.relay.reading import RequestReader
from protos.domain.errors import HeadersTooLarge, InvalidRequest, TooLarge

LIMITS = ServerLimits(
    max_header_bytes=1_024,
    max_body_bytes=256,
    header_timeout_ms=1.0,
    body_timeout_ms=1.0,
    idle_timeout_ms=1.0,
    buffer_bytes=1,
    max_connections=1,
)
REFUSALS = (HeadersTooLarge, InvalidRequest, TooLarge)
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


@dataclass
class Sink:
    """Collects the requests that were read."""

    requests: list[Request] = field(default_factory=list)
    heads: int = 0

    def on_request_begin(self, now_mono_ms: float) -> None:
        pass

    def on_request_head(
        self, request: Request, now_mono_ms: float, *, expects_continue: bool
    ) -> int:
        self.heads += 1
        return LIMITS.max_body_bytes

    def on_body_bytes(self, request: Request, size_bytes: int) -> None:
        pass

    def on_request(self, request: Request) -> None:
        self.requests.append(request)


@st.composite
def sent_requests(draw):
    """A request as bytes, and the expected result of reading it."""
    body = draw(st.binary(max_size=200))
    http10 = draw(st.booleans())
    lines = [b"POST /%d HTTP/1.%d" % (draw(st.integers(0, 99)), 0 if http10 else 1), b"host: x"]
    if http10:
        lines.append(b"connection: keep-alive")
    head = b"\r\n".join(lines) + b"\r\n"
    if not http10 and draw(st.booleans()):
        head += H2C
    if not http10 and draw(st.booleans()):
        cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=4)))
        parts = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True) if a < b]
        sent = b"transfer-encoding: chunked\r\n\r\n" + b"".join(map(chunk, parts)) + b"0\r\n\r\n"
    else:
        sent = b"content-length: %d\r\n\r\n" % len(body) + body
    return head + sent, (lines[0].split()[1], body, http10)


def read(pieces: list[bytes]) -> Sink:
    sink = Sink()
    reader = RequestReader(LIMITS, lambda: 1.0, sink)
    for piece in pieces:
        reader.feed(piece)
    return sink


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(bounds) if a < b]


@given(st.lists(sent_requests(), min_size=1, max_size=4), st.lists(st.integers(0), max_size=12))
def test_requests_are_read_the_same_however_their_bytes_arrive(sent, cuts) -> None:
    sink = read(split(b"".join(data for data, _ in sent), cuts))
    told = [(request.target, request.body, request.http10) for request in sink.requests]
    assert told == [expected for _, expected in sent]
    assert sink.heads == len(sent)
    assert all(request.keep_alive for request in sink.requests)


@given(
    sent_requests(),
    st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=6),
    st.lists(st.integers(0), max_size=6),
)
def test_hostile_bytes_are_refused_or_read_within_the_limits(sent, changes, cuts) -> None:
    data = bytearray(sent[0])
    for at, byte in changes:
        data[at % len(data)] = byte
    sink = Sink()
    reader = RequestReader(LIMITS, lambda: 1.0, sink)
    with contextlib.suppress(*REFUSALS):
        for piece in split(bytes(data), cuts):
            reader.feed(piece)
    for request in sink.requests:
        assert len(request.body) <= LIMITS.max_body_bytes


@given(st.binary(max_size=300), st.lists(st.integers(0), max_size=6))
def test_arbitrary_bytes_are_read_or_refused(data, cuts) -> None:
    with contextlib.suppress(*REFUSALS):
        read(split(data, cuts))
