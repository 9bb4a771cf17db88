"""Where a request ends and how its response is framed: upgrades, HTTP/1.0, smuggling."""

from __future__ import annotations

import asyncio

import httptools
import pytest

from agent.relay.messages import Request, chunk
from agent.relay.server import ServerConnection
from tests.support.served import served

POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
POST_10 = b"POST /v1/chat/completions HTTP/1.0\r\nhost: x\r\n"
#: What Java's HttpClient sends with its first request in the clear.
H2C = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
)
CLOSE = b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n"


def sized(body: bytes) -> bytes:
    return b"content-length: %d\r\n\r\n" % len(body) + body


def in_chunks(*parts: bytes) -> bytes:
    return b"transfer-encoding: chunked\r\n\r\n" + b"".join(map(chunk, parts)) + b"0\r\n\r\n"


class Responses:
    """What a client's parser makes of the bytes of a connection, response by response."""

    def __init__(self, data: bytes) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[bytes, bytes]] = []
        self._parser = httptools.HttpResponseParser(self)
        self.statuses: list[int] = []
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.bodies.append(b"")
        self.headers.append({})

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[-1][name.lower()] = value

    def on_headers_complete(self) -> None:
        self.statuses.append(self._parser.get_status_code())

    def on_body(self, data: bytes) -> None:
        self.bodies[-1] += data


@pytest.mark.parametrize(
    "framed", [sized(b"hello"), in_chunks(b"he", b"llo")], ids=["sized", "chunked"]
)
@pytest.mark.parametrize("split", [1, 7, 10_000])
async def test_an_h2c_offer_with_a_body_is_served_as_http_1_1(framed: bytes, split: int) -> None:
    """The next requests of the connection are read as usual, offered again or not."""
    data = (POST + H2C + framed) * 2 + POST + framed + CLOSE
    async with served() as server:
        reader, writer = await server.connect()
        for at in range(0, len(data), split):
            writer.write(data[at : at + split])
            await writer.drain()
        responses = Responses(await asyncio.wait_for(reader.read(), 20))
        writer.close()
    assert responses.statuses == [200] * 4
    assert responses.bodies == [b"/v1/chat/completions hello"] * 3 + [b"/last "]


@pytest.mark.parametrize("offer", [H2C, b"connection: upgrade\r\nupgrade: websocket\r\n"])
async def test_an_upgrade_offered_with_a_body_smuggles_nothing(offer: bytes) -> None:
    async with served() as server:
        responses = Responses(await server.talk(POST + offer + sized(HIDDEN) + CLOSE))
    assert responses.statuses == [200, 200]
    assert responses.bodies == [b"/v1/chat/completions " + HIDDEN, b"/last "]


async def test_limits_hold_for_a_body_behind_an_offered_upgrade() -> None:
    async with served() as server:
        for framed in (sized(b"a" * 5_000), in_chunks(b"a" * 3_000, b"b" * 3_000)):
            assert Responses(await server.talk(POST + H2C + framed)).statuses == [413]


@pytest.mark.parametrize(
    "junk",
    [
        POST + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        POST + b"content-length: 5, 5\r\n\r\nhello",
        POST + b"content-length: +5\r\n\r\nhello",
        POST + b"content-length: 0x5\r\n\r\nhello",
        POST + b"content-length : 5\r\n\r\nhello",
        POST + b"content-length: 5\r\n" + in_chunks(b"hello"),
        POST + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: identity\r\n\r\nhello",
        POST + b"transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\n5\r\nhelloX0\r\n\r\n",
        POST + b"x: a\r\n b\r\n" + sized(b"hello"),
        POST + b"x: a\x00b\r\n" + sized(b"hello"),
        POST + H2C + b"content-length: 5\r\n" + in_chunks(b"hello"),
        POST + H2C + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        POST_10 + in_chunks(b"hello"),
        b"POST /v1/chat/completions HTTP/2.0\r\nhost: x\r\n" + sized(b"hello"),
        b"CONNECT host:443 HTTP/1.1\r\nhost: x\r\n" + sized(b"hello"),
    ],
    ids=lambda data: repr(data[len(POST) :][:40]),
)
async def test_a_request_whose_end_could_be_read_in_two_ways_is_refused(junk: bytes) -> None:
    async with served() as server:
        answer = await server.talk(junk + HIDDEN)
    assert Responses(answer).statuses == [400]
    assert b"hidden" not in answer


async def test_framing_without_end_around_a_body_is_413() -> None:
    """One trailer, or chunk extensions, that never end: they are no part of the body's size."""
    async with served() as server:
        for begun in (chunk(b"x") + b"0\r\nx: ", b"1;"):
            reader, writer = await server.connect()
            writer.write(POST + b"transfer-encoding: chunked\r\n\r\n" + begun)
            await writer.drain()
            for _ in range(64):
                writer.write(b"a" * 1_024)
            assert Responses(await asyncio.wait_for(reader.read(), 20)).statuses == [413]
            writer.close()


async def test_http_1_0_is_answered_with_a_length_and_closed() -> None:
    async with served() as server:
        answer = await server.talk(POST_10 + sized(b"hello"))
    (headers,) = Responses(answer).headers
    assert headers[b"content-length"] == b"%d" % len("/v1/chat/completions hello")
    assert headers[b"connection"] == b"close"
    assert b"transfer-encoding" not in headers


async def test_http_1_0_is_kept_open_where_it_asks_for_that() -> None:
    kept = POST_10 + b"connection: keep-alive\r\n" + sized(b"hello")
    async with served() as server:
        responses = Responses(await server.talk(kept + POST_10 + sized(b"bye")))
    assert responses.statuses == [200, 200]
    assert responses.headers[0][b"connection"] == b"keep-alive"
    assert responses.headers[1][b"connection"] == b"close"


async def test_http_1_0_gets_no_interim_response() -> None:
    head = b"expect: 100-continue\r\ncontent-length: 5\r\n\r\n"
    async with served() as server:
        assert b" 100 " not in await server.talk(POST_10 + head + b"hello")
        answer = await server.talk(POST + b"connection: close\r\n" + head + b"hello")
        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")


async def stream(request: Request, client: ServerConnection) -> None:
    client.begin_stream(request, 200, [(b"content-type", b"text/event-stream")], b"first ")
    client.write_piece(b"second ")
    client.end_stream(b"third" if request.body else b"")


async def test_a_stream_is_chunked_and_its_connection_goes_on() -> None:
    async with served(stream) as server:
        responses = Responses(await server.talk(POST + sized(b"x") + POST + sized(b"") + CLOSE))
    assert responses.bodies == [b"first second third", b"first second ", b"first second "]
    assert [each[b"transfer-encoding"] for each in responses.headers] == [b"chunked"] * 3
    assert [b"connection" in each for each in responses.headers] == [False, False, True]
    assert all(each[b"x-request-id"] for each in responses.headers)


@pytest.mark.parametrize("asked", [b"", b"connection: keep-alive\r\n"])
async def test_a_stream_for_http_1_0_has_no_chunks_and_ends_with_its_connection(
    asked: bytes,
) -> None:
    async with served(stream) as server:
        answer = await server.talk(POST_10 + asked + sized(b"x"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert body == b"first second third"
    assert b"transfer-encoding" not in head
    assert b"content-length" not in head
    assert b"connection: close" in head
