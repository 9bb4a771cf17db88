"""What clients may do to a connection, and what it costs them: real sockets, no fleet."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

import pytest

from agent.relay.messages import Request, chunk, response_head
from agent.relay.server import MAX_PIPELINED, ServerConnection
from tests.support.served import echo, served
from tests.support.waiting import wait_until_async

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"


def post(body: bytes, *headers: bytes) -> bytes:
    return HEAD + b"".join(headers) + b"content-length: %d\r\n\r\n" % len(body) + body


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def error_of(answer: bytes) -> dict[str, object]:
    return dict(json.loads(answer.partition(b"\r\n\r\n")[2])["error"])


async def refused(data: bytes, status: int, **limits: float) -> None:
    async with served(**limits) as server:
        answer = await server.talk(data)
        assert status_of(answer) == status
        assert b"connection: close" in answer
        assert error_of(answer)["message"]


async def test_a_head_over_the_limit_is_431() -> None:
    await refused(HEAD + b"x-a: " + b"a" * 3_000 + b"\r\n\r\n", 431)


async def test_a_head_of_many_small_headers_over_the_limit_is_431() -> None:
    await refused(HEAD + b"a: b\r\n" * 1_000 + b"\r\n", 431)


async def test_a_head_without_an_end_is_431_before_it_fills_memory() -> None:
    await refused(HEAD + b"x-a: " + b"a" * 100_000, 431)


async def test_a_target_over_the_limit_is_431() -> None:
    await refused(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", 431)


async def test_a_body_that_says_it_is_over_the_limit_is_413_unread() -> None:
    await refused(HEAD + b"content-length: 5000\r\n\r\n", 413)


async def test_a_chunked_body_that_grows_over_the_limit_is_413() -> None:
    body = HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunk(b"a" * 3_000) + chunk(b"b" * 3_000)
    await refused(body, 413)


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello there\r\n\r\n",
        HEAD + b"content-length: -5\r\n\r\n",
        HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\n",
        HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"bad header\r\n\r\n",
    ],
    ids=["tls", "text", "negative", "two-lengths", "length-and-chunked", "chunk-size", "header"],
)
async def test_what_is_no_http_is_400_and_the_end(junk: bytes) -> None:
    await refused(junk, 400)


OFFER = b"connection: upgrade\r\nupgrade: h2c\r\n"


async def test_an_offered_upgrade_is_not_taken_and_the_request_served() -> None:
    offer = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n" + OFFER + b"\r\n"
    async with served() as server:
        answer = await server.talk(offer + post(b"next", b"connection: close\r\n"))
        assert answer.count(b"HTTP/1.1 200 OK") == 2
        assert answer.endswith(b"next")


async def test_a_trailer_says_nothing_that_is_believed() -> None:
    async def tell(request: Request, client: ServerConnection) -> None:
        client.respond(request, 200, [], request.headers.get(b"authorization", b"nobody"))

    body = chunk(b"{}") + b"0\r\nauthorization: Bearer forged\r\n\r\n"
    async with served(tell) as server:
        answer = await server.talk(
            HEAD + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n" + body
        )
        assert answer.endswith(b"nobody")


async def test_trailers_without_end_are_431() -> None:
    body = chunk(b"{}") + b"0\r\n" + b"a: b\r\n" * 1_000 + b"\r\n"
    await refused(HEAD + b"transfer-encoding: chunked\r\n\r\n" + body, 431)


async def test_a_head_that_trickles_in_is_408_slowloris() -> None:
    await refused(HEAD, 408, header_timeout_ms=100.0)


async def test_a_body_that_never_ends_is_408() -> None:
    await refused(HEAD + b"content-length: 10\r\n\r\nabc", 408, body_timeout_ms=100.0)


async def test_a_connection_that_says_nothing_is_closed_without_a_word() -> None:
    async with served(header_timeout_ms=100.0) as server:
        assert await server.talk(b"") == b""


async def test_a_kept_alive_connection_is_closed_when_it_stays_idle() -> None:
    async with served(idle_timeout_ms=100.0) as server:
        answer = await server.talk(post(b"1"))
        assert status_of(answer) == 200
        assert server.connections.timed_out == 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with served() as server:
        data = b"".join(post(b"%d" % number) for number in range(3))
        answer = await server.talk(data + post(b"last", b"connection: close\r\n"))
        bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200")[1:]]
        assert [body.split()[-1] for body in bodies] == [b"0", b"1", b"2", b"last"]


async def test_a_client_that_pipelines_without_end_is_cut_not_buffered() -> None:
    waiting = asyncio.Event()

    async def never(_request: Request, _client: ServerConnection) -> None:
        await waiting.wait()

    async with served(never) as server:
        assert await server.talk(post(b"x") * (MAX_PIPELINED + 8)) == b""
        await wait_until_async(lambda: not server.connections.busy, 30, "the handler to end")


async def test_a_client_that_does_not_read_has_one_answer_in_memory_however_many_it_asked() -> None:
    served_bodies: list[bytes] = []
    large = bytes(16 * 1024**2)

    async def answer(request: Request, client: ServerConnection) -> None:
        served_bodies.append(request.body)
        client.respond(request, 200, [], large if request.body != b"small" else b"")

    async with served(answer) as server:
        reader, writer = await server.connect()
        writer.write(b"".join(post(b"%d" % number) for number in range(3)))
        assert await reader.readexactly(15) == b"HTTP/1.1 200 OK"
        for _ in range(3):  # enough turns of the loop for the others, were they served
            await server.talk(post(b"small", b"connection: close\r\n"))
        assert served_bodies == [b"0", *[b"small"] * 3]
        while len(served_bodies) < 6:
            assert await reader.read(1 << 20)
        writer.close()


async def test_a_client_that_never_reads_its_answer_is_cut() -> None:
    async def answer(request: Request, client: ServerConnection) -> None:
        client.respond(request, 200, [], bytes(16 * 1024**2))

    async with served(answer, idle_timeout_ms=50.0) as server:
        _, writer = await server.connect()
        writer.write(post(b"x"))
        await wait_until_async(lambda: server.connections.accepted == 1, 30, "it to come")
        await wait_until_async(lambda: not server.connections.live, 30, "it to be cut")
        writer.close()


class _NoPeer(asyncio.Transport):
    """A connection without another side."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: object) -> None:
        pass

    def abort(self) -> None:
        pass


@pytest.mark.parametrize("served_before", [0, 1], ids=["first", "second"])
async def test_a_request_whose_client_is_gone_at_once_leaves_nobody_busy(
    served_before: int,
) -> None:
    async with served() as server:
        place = server.connections.shares.admit("", 0.0).place
        assert place is not None
        connection = ServerConnection(server.connections, echo, place)
        connection.connection_made(_NoPeer())
        for _ in range(served_before):
            connection.data_received(post(b"x"))
            await wait_until_async(lambda: not connection.serving, 30, "the first")
        connection.data_received(post(b"x"))
        assert server.connections.busy == 1
        connection.connection_lost(None)
        await asyncio.wait_for(server.connections.wait_idle(), 20)
        assert server.connections.busy == 0


async def test_over_the_limit_the_oldest_idle_connection_ends_and_no_busy_one() -> None:
    waiting = asyncio.Event()

    async def slow(request: Request, client: ServerConnection) -> None:
        await waiting.wait()
        await echo(request, client)

    async with served(slow, max_connections=2) as server:
        busy, busy_writer = await server.connect()
        busy_writer.write(post(b"x"))
        await wait_until_async(lambda: server.connections.busy, 30, "the request to run")
        idle, idle_writer = await server.connect()
        await wait_until_async(lambda: len(server.connections.live) == 2, 30, "both accepted")
        new, new_writer = await server.connect()
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(idle.read(), 20) == b"", "the idle one has ended"
        assert server.connections.shares.evicted == 1
        new_writer.write(post(b"y"))
        await wait_until_async(lambda: server.connections.busy == 2, 30, "both to be served")
        assert await server.talk(post(b"z")) == b"", "nobody is idle"
        assert server.connections.refused == 1
        waiting.set()
        for reader in (busy, new):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        for writer in (busy_writer, idle_writer, new_writer):
            writer.close()


async def test_a_client_that_leaves_cancels_its_request() -> None:
    ended = asyncio.Event()

    async def slow(_request: Request, _client: ServerConnection) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with served(slow) as server:
        _, writer = await server.connect()
        writer.write(post(b"x"))
        await wait_until_async(lambda: server.connections.busy, 30, "the request to run")
        writer.close()
        await asyncio.wait_for(ended.wait(), 30)
        await wait_until_async(lambda: not server.connections.live, 30, "nothing to be left")


async def test_a_handler_that_fails_costs_its_connection_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(request: Request, client: ServerConnection) -> None:
        if request.body == b"bad":
            raise RuntimeError("a bug")
        await echo(request, client)

    async with served(broken) as server:
        assert await server.talk(post(b"bad")) == b""
        assert "a bug" in caplog.text
        assert status_of(await server.talk(post(b"good", b"connection: close\r\n"))) == 200


class Tap:
    """Where a stream comes from: counts how often it is held back."""

    def __init__(self) -> None:
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.pauses = 0

    def pause(self) -> None:
        self.pauses += 1
        self.flowing.clear()

    def resume(self) -> None:
        self.flowing.set()


async def _pour(request: Request, client: ServerConnection, tap: Tap, size_bytes: int) -> None:
    client.flow_from(tap)
    client.write(response_head(200, [(b"transfer-encoding", b"chunked")], keep_alive=False))
    for _ in range(size_bytes // 16_384):
        await tap.flowing.wait()
        client.write(chunk(b"x" * 16_384))
    client.write(b"0\r\n\r\n")
    client.close()


async def test_a_slow_reader_holds_its_source_back_and_no_neighbour() -> None:
    tap = Tap()

    async def handler(request: Request, client: ServerConnection) -> None:
        if request.body == b"pour":
            await _pour(request, client, tap, 64 * 1024 * 1024)
        else:
            await echo(request, client)

    async with served(handler) as server:
        reader, writer = await server.connect()
        writer.write(post(b"pour"))
        await wait_until_async(lambda: tap.pauses, 20, "the source to be held back")
        (slow,) = [one for one in server.connections.live if one.serving]
        assert slow.transport is not None
        assert slow.transport.get_write_buffer_size() < 1024 * 1024, "bounded, not buffered"
        assert status_of(await server.talk(post(b"x", b"connection: close\r\n"))) == 200
        taken = 0
        while part := await reader.read(1024 * 1024):
            taken += len(part)
        assert taken > 64 * 1024 * 1024
        writer.close()


async def test_a_client_that_never_reads_its_answer_is_cut_in_the_end() -> None:
    async def large(request: Request, client: ServerConnection) -> None:
        client.respond(request, 200, [], b"x" * (32 * 1024 * 1024))

    async with served(large, idle_timeout_ms=300.0) as server:
        _, writer = await server.connect()
        writer.write(post(b"x", b"connection: close\r\n"))
        await wait_until_async(lambda: server.connections.accepted, 30, "the connection")
        await wait_until_async(lambda: not server.connections.live, 20, "it to be cut")
        writer.close()


async def test_draining_lets_what_runs_end_and_takes_nothing_new() -> None:
    finish = asyncio.Event()

    async def slow(request: Request, client: ServerConnection) -> None:
        await finish.wait()
        await echo(request, client)

    async with served(slow) as server:
        idle_reader, idle_writer = await server.connect()
        running = asyncio.create_task(server.talk(post(b"x")))
        await wait_until_async(lambda: server.connections.busy, 30, "the request to run")
        await wait_until_async(lambda: len(server.connections.live) == 2, 30, "both accepted")
        server.connections.drain()
        assert await idle_reader.read() == b"", "an idle connection is closed at once"
        assert await server.talk(post(b"y")) == b""
        finish.set()
        answer = await running
        assert status_of(answer) == 200
        assert b"connection: close" in answer
        idle_writer.close()


async def test_a_client_that_is_still_sending_gets_to_read_its_refusal() -> None:
    async with served() as server:
        reader, writer = await server.connect()
        writer.write(HEAD + b"content-length: 4000000\r\n\r\n")
        for _ in range(61):
            writer.write(b"x" * 65_536)
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 20)
        assert status_of(answer) == 413
        writer.close()


async def test_headers_of_a_megabyte_are_431() -> None:
    await refused(HEAD + b"x-a: " + b"a" * 1_048_576 + b"\r\n\r\n", 431)


async def test_a_connection_that_is_silent_for_long_is_kept_alive_and_not_delayed() -> None:
    sockets: list[socket.socket] = []

    async def look(request: Request, client: ServerConnection) -> None:
        assert client.transport is not None
        sockets.append(client.transport.get_extra_info("socket"))
        for level, option in (
            (socket.IPPROTO_TCP, socket.TCP_NODELAY),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        ):
            assert sockets[0].getsockopt(level, option)
        assert sockets[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 60
        client.respond(request, 200, [], b"ok")

    async with served(look) as server:
        said = await server.talk(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert said.endswith(b"ok")
    assert sockets
