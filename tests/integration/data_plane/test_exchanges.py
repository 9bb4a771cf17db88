"""Exchanges between a client's connection and an engine's: real sockets, no fleet."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Iterator

import pytest

from agent.clock import now_mono_ms
from agent.formats.sse import EventStream
from agent.relay.exchange import Claim, Ending, Exchange, Patience
from agent.relay.messages import Header, Request, request_bytes, response_head, whole_response
from agent.relay.server import ServerConnection
from agent.relay.upstream import Address
from agent.relay.upstream_pool import UpstreamPool
from tests.support.served import served

WHOLE = b'{"id":"x","choices":[]}'
CHUNK = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
STREAM = CHUNK * 3 + b"data: [DONE]\n\n"
PATIENCE = Patience(10_000.0, 10_000.0)
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
ROUNDS = 20


class _Engine(asyncio.Protocol):
    """Gives every request the same answer."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"\r\n\r\n{}")):
            self._transport.write(self._answer)


@contextlib.asynccontextmanager
async def engine(kind: bytes, body: bytes, behind: bytes = b"") -> AsyncIterator[UpstreamPool]:
    """Connections to an engine that answers ``body``, and says ``behind`` unasked after it."""
    answer = whole_response(200, [(b"content-type", kind)], body, keep_alive=True) + behind
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Engine(answer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pool = UpstreamPool(
        Address("engine", b"engine", host="127.0.0.1", port=port),
        max_idle=4,
        connect_timeout_ms=5_000.0,
    )
    try:
        yield pool
    finally:
        pool.close()
        server.close()


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No collection but the test's own."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize(
    ("kind", "body"),
    [(b"application/json", WHOLE), (b"text/event-stream", STREAM)],
    ids=["whole", "stream"],
)
async def test_an_exchange_that_is_over_leaves_nothing_to_the_garbage_collector(
    kind: bytes, body: bytes
) -> None:
    endings: list[Ending | None] = []

    async with engine(kind, body) as pool:

        async def relay(request: Request, client: ServerConnection) -> None:
            events = EventStream(include_usage=False, continuous_usage=False)
            exchange = Exchange(client, events, _head, now_mono_ms, claim=Claim())
            message = request_bytes("POST", request.target, b"engine", [], request.body)
            await exchange.run(pool, message, PATIENCE)
            endings.append(exchange.ending)
            if not exchange.streamed:
                client.respond(request, 200, [], exchange.body)

        async with served(relay) as server:
            reader, writer = await server.connect()
            last = WHOLE if body is WHOLE else b"0\r\n\r\n"
            for round_ in range(ROUNDS):
                if round_ == 1:
                    gc.collect()  # what the connections needed; from here on only requests
                writer.write(REQUEST)
                await asyncio.wait_for(reader.readuntil(last), 20)
            left = [one for one in gc.get_objects() if isinstance(one, Exchange)]
            writer.close()
            await writer.wait_closed()

    assert endings == [Ending.COMPLETE] * ROUNDS
    assert len(left) <= 1, "the last one's task may not have ended yet"


async def test_bytes_behind_a_response_are_never_taken_for_the_next_one() -> None:
    forged = whole_response(200, [], b"forged", keep_alive=True)
    for behind in (forged, forged[:20], b"{}"):
        async with engine(b"application/json", WHOLE, behind) as pool:

            async def relay(request: Request, client: ServerConnection, pool=pool) -> None:
                exchange = Exchange(client, None, _head, now_mono_ms)
                await exchange.run(pool, REQUEST, PATIENCE)
                client.respond(request, 200, [], exchange.body)

            async with served(relay) as server:
                reader, writer = await server.connect()
                for _ in range(3):
                    writer.write(REQUEST)
                    answer = await asyncio.wait_for(reader.readuntil(WHOLE), 20)
                    assert b"forged" not in answer
                writer.close()
                await writer.wait_closed()
            assert pool.dials == 3, "a connection that said too much served again"


def _head(status: int, headers: list[Header]) -> bytes:
    return response_head(status, [*headers, (b"transfer-encoding", b"chunked")], keep_alive=True)
