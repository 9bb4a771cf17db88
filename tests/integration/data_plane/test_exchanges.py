"""Requests between a client's connection and an engine's: real sockets, no fleet."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Iterator

import pytest

from agent.gateway.runner import RequestRunner
from agent.relay.exchange import Exchange
from agent.relay.messages import chunk, response_head, whole_response
from agent.relay.reading import RequestReader
from agent.relay.server import ServerConnection
from agent.relay.upstream import Address
from agent.relay.upstream_pool import UpstreamPool
from tests.support.in_process_gateway import (
    chat_request,
    in_process_gateway,
    replaced_policy,
    table,
)
from tests.support.waiting import wait_until_async

WHOLE = b'{"id":"x","choices":[]}'
ASK_WHOLE = chat_request(b'{"model":"small","messages":[]}')
ASK_STREAM = chat_request()
CHUNK = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
STREAM = CHUNK * 3 + b"data: [DONE]\n\n"
STREAMED = (b"content-type", b"text/event-stream")
CHUNKED = (b"transfer-encoding", b"chunked")
ROUNDS = 20


class _Engine(asyncio.Protocol):
    """Gives every request the same answer."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"POST ")):
            self._transport.write(self._answer)


@contextlib.asynccontextmanager
async def engine(
    kind: bytes, body: bytes, behind: bytes = b"", make: type[_Engine] = _Engine
) -> AsyncIterator[UpstreamPool]:
    """Connections to an engine that answers ``body``, and says ``behind`` unasked after it."""
    answer = whole_response(200, [(b"content-type", kind)], body, keep_alive=True) + behind
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: make(answer), "127.0.0.1", 0)
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
    ("kind", "body", "request_", "last"),
    [
        (b"application/json", WHOLE, ASK_WHOLE, WHOLE),
        (b"text/event-stream", STREAM, ASK_STREAM, b"0\r\n\r\n"),
    ],
    ids=["whole", "stream"],
)
async def test_a_request_that_is_over_leaves_nothing_to_the_garbage_collector(
    kind: bytes, body: bytes, request_: bytes, last: bytes
) -> None:
    async with engine(kind, body) as pool, in_process_gateway({"near": pool}) as gateway:
        reader, writer = await gateway.server.connect()
        for round_ in range(ROUNDS):
            if round_ == 1:
                gc.collect()  # what the connections needed; from here on only requests
            writer.write(request_)
            await asyncio.wait_for(reader.readuntil(last), 20)
        left = [one for one in gc.get_objects() if isinstance(one, Exchange | RequestRunner)]
        writer.close()
        await writer.wait_closed()
    assert [log.status for log in gateway.records.latest(ROUNDS)] == [200] * ROUNDS
    assert len(left) <= 2, "the last one's task may not have ended yet"


@pytest.mark.usefixtures("uncollected")
async def test_a_client_that_leaves_leaves_nothing_to_the_garbage_collector() -> None:
    streams = set()

    class _Unended(_Engine):
        def data_received(self, data: bytes) -> None:
            streams.add(self)
            head = response_head(200, [STREAMED, CHUNKED], keep_alive=True)
            self._transport.write(head + chunk(CHUNK))

        def connection_lost(self, exc: Exception | None) -> None:
            streams.discard(self)

    async with (
        engine(b"", b"", make=_Unended) as pool,
        in_process_gateway({"near": pool}) as gateway,
    ):
        for round_ in range(ROUNDS):
            if round_ == 1:
                gc.collect()
            reader, writer = await gateway.server.connect()
            writer.write(ASK_STREAM)
            await asyncio.wait_for(reader.readuntil(b'"content":"a"'), 20)
            writer.close()
            await writer.wait_closed()
            await wait_until_async(lambda: not streams, 20, "the end of its stream")
        kinds = Exchange | RequestRunner | ServerConnection | RequestReader
        left = [one for one in gc.get_objects() if isinstance(one, kinds)]
    assert len(left) <= 4, "the last one's task may not have ended yet"


async def test_bytes_behind_a_response_are_never_taken_for_the_next_one() -> None:
    forged = whole_response(200, [], b"forged", keep_alive=True)
    for behind in (forged, forged[:20], b"{}"):
        async with (
            engine(b"application/json", WHOLE, behind) as pool,
            in_process_gateway({"near": pool}) as gateway,
        ):
            reader, writer = await gateway.server.connect()
            for _ in range(3):
                writer.write(ASK_WHOLE)
                answer = await asyncio.wait_for(reader.readuntil(WHOLE), 20)
                assert b"forged" not in answer
            writer.close()
            await writer.wait_closed()
            assert pool.dials == 3, "a connection that said too much served again"


async def test_a_silent_engine_costs_the_client_neither_its_proxy_nor_its_place() -> None:
    """The head and heartbeats come while the engine says nothing, and then its answer."""
    silent = asyncio.Event()

    class _Slow(_Engine):
        def data_received(self, data: bytes) -> None:
            loop = asyncio.get_running_loop()
            loop.create_task(self._later())  # noqa: RUF006

        async def _later(self) -> None:
            await silent.wait()
            self._transport.write(self._answer)

    async with engine(b"text/event-stream", STREAM, make=_Slow) as pool:
        policy = replaced_policy(heartbeat_ms=50.0)
        async with in_process_gateway({"near": pool}, policy=policy) as gateway:
            reader, writer = await gateway.server.connect()
            writer.write(ASK_STREAM)
            said = await asyncio.wait_for(reader.readuntil(b": keep-alive\n\n"), 20)
            assert said.startswith(b"HTTP/1.1 200 OK")
            assert b"text/event-stream" in said
            assert b"x-request-id: " in said
            await asyncio.wait_for(reader.readuntil(b": keep-alive\n\n"), 20)
            silent.set()
            rest = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 20)
            assert b'"content":"a"' in rest
            assert b"HTTP/1.1" not in rest, "one head"
            writer.close()
            await writer.wait_closed()
    assert pool.dials == 1, "asked once"


async def test_what_fails_after_a_heartbeat_is_an_error_event_and_the_connection_ends() -> None:
    class _Dies(_Engine):
        def data_received(self, data: bytes) -> None:
            asyncio.get_running_loop().call_later(0.2, self._transport.abort)

    async with engine(b"text/event-stream", STREAM, make=_Dies) as pool:
        policy = replaced_policy(heartbeat_ms=20.0)
        async with in_process_gateway({"near": pool}, policy=policy) as gateway:
            said = await gateway.server.talk(ASK_STREAM)
    head, _, events = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert b"event: error" in events
    assert said.endswith(b"0\r\n\r\n")


async def test_a_late_target_makes_way_for_one_that_is_sooner() -> None:
    class _Silent(_Engine):
        def data_received(self, data: bytes) -> None:
            """Says nothing."""

    async with (
        engine(b"text/event-stream", STREAM, make=_Silent) as near,
        engine(b"text/event-stream", STREAM) as far,
        in_process_gateway(
            {"near": near, "far": far}, table({"near": 20.0, "far": 60.0})
        ) as gateway,
    ):
        reader, writer = await gateway.server.connect()
        writer.write(ASK_STREAM)
        said = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 20)
        assert b"x-edgeforge-node: far" in said
        writer.close()
        await writer.wait_closed()
        log = gateway.records.latest(1)[0]
    assert [str(one.outcome) for one in log.attempts] == ["late", "answered"]


async def test_a_body_that_is_read_but_cannot_be_written_is_400_and_leaves_nothing_in_flight() -> (
    None
):
    """It is found out only when an engine is to be asked."""
    deep = b'{"model":"small","messages":[],"metadata":' + b"[" * 300 + b"]" * 300 + b"}"
    async with (
        engine(b"application/json", WHOLE) as pool,
        in_process_gateway({"near": pool}) as gateway,
    ):
        said = await gateway.server.talk(chat_request(deep, (b"connection", b"close")))
        state = gateway.gateway.state
    assert said.startswith(b"HTTP/1.1 400 ")
    assert state.live.in_flight("near") == 0
    assert state.engine_door.serving == 0
    assert pool.dials == 0
