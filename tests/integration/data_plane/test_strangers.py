"""Clients that nobody knows, and many of them: what they can hold of a port. Real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from agent.core.body_budget import BodyBudget
from agent.gateway.client_routes import ClientRoutes
from agent.gateway.head_gate import HeadGate
from agent.gateway.health import Health
from agent.relay.messages import Request
from agent.relay.reading import SINGLE_HEADERS
from protos.domain.connection_shares import MIN_STRANGERS
from protos.domain.errors import EdgeForgeError, Overloaded
from tests.support.in_process_gateway import SECRET, gateway_context, table
from tests.support.served import Served, served
from tests.support.waiting import wait_until_async

CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
SIGNED = CHAT + b"authorization: Bearer " + SECRET.encode() + b"\r\n"
BODY_BYTES = 1_000_000
STRANGER, CUSTOMER = "127.0.0.66", "127.0.0.1"
#: The head of a body that never comes whole.
ANNOUNCED = b"content-length: %d\r\n\r\n" % BODY_BYTES
CHUNKED = b"transfer-encoding: chunked\r\n\r\n1000\r\n"


class Gated:
    """A port behind the product's gate for heads."""

    def __init__(self, server: Served, refused: list[str]) -> None:
        self.server = server
        #: Why generations were refused by their head.
        self.refused = refused


@contextlib.asynccontextmanager
async def gated(limit_bytes: int = 4 * BODY_BYTES, **limits: float) -> AsyncIterator[Gated]:
    refused: list[str] = []
    gateway = gateway_context(table({"near": 20.0}))

    def note(_api: object, _request: Request, error: EdgeForgeError) -> None:
        refused.append(error.message)

    gate = HeadGate(gateway, BODY_BYTES, note).admit
    bodies = BodyBudget(limit_bytes)
    given = {"max_body_bytes": BODY_BYTES} | limits
    async with served(admit_head=gate, bodies=bodies, **given) as server:
        yield Gated(server, refused)
    assert bodies.used_bytes == 0, "every byte was given back"


async def status_of_head(server: Served, sent: bytes) -> bytes:
    """Send and read the status line; the connection stays open, the body unfinished."""
    reader, writer = await server.connect()
    writer.write(sent)
    line = await asyncio.wait_for(reader.readline(), 20)
    writer.close()
    return line


@pytest.mark.parametrize("rest", [ANNOUNCED, CHUNKED, b"expect: 100-continue\r\n" + ANNOUNCED])
@pytest.mark.parametrize("head", [CHAT, CHAT + b"x-api-key: wrong\r\n"])
async def test_a_body_without_a_valid_key_is_401_before_it_is_sent(
    head: bytes, rest: bytes
) -> None:
    async with gated() as port:
        assert await status_of_head(port.server, head + rest) == b"HTTP/1.1 401 Unauthorized\r\n"
        assert len(port.refused) == 1


async def test_an_oddly_spelled_path_is_checked_from_its_head_too() -> None:
    odd = CHAT.replace(b"/v1/chat", b"http://x/v1/%63hat")
    async with gated() as port:
        assert b"401" in await status_of_head(port.server, odd + ANNOUNCED)


async def test_a_large_body_for_a_route_that_takes_none_is_413_before_it_is_sent() -> None:
    async with gated() as port:
        sent = b"POST /v1/unknown HTTP/1.1\r\nhost: x\r\n" + ANNOUNCED
        assert b"413" in await status_of_head(port.server, sent)


async def test_a_refused_body_is_dropped_as_it_comes_and_its_client_reads_the_answer() -> None:
    async with gated() as port:
        answer = await port.server.talk(CHAT + ANNOUNCED + bytes(BODY_BYTES))
        assert answer.startswith(b"HTTP/1.1 401")
        assert b"connection: close" in answer


async def test_a_request_without_a_key_behind_a_good_one_does_not_cut_that_ones_answer() -> None:
    async with gated() as port:
        good = SIGNED + b"content-length: 2\r\n\r\nhi"
        answer = await port.server.talk(good + CHAT + ANNOUNCED)
        assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"401"]


async def test_unfinished_bodies_have_one_budget_and_over_it_a_body_is_429_with_retry_after() -> (
    None
):
    async with gated(limit_bytes=4 * BODY_BYTES) as port:
        held = [await port.server.connect() for _ in range(2)]
        for _, writer in held:
            writer.write(SIGNED + ANNOUNCED)
        await wait_until_async(
            lambda: (
                port.server.bodies is not None and port.server.bodies.used_bytes == 2 * BODY_BYTES
            ),
            30,
            "both to be counted",
        )
        reader, writer = await port.server.connect()
        writer.write(SIGNED + ANNOUNCED)
        answer = await asyncio.wait_for(reader.read(), 20)
        assert answer.startswith(b"HTTP/1.1 429")
        assert b"retry-after: 1" in answer.lower()
        for _, one in [*held, (reader, writer)]:
            one.close()
        await wait_until_async(lambda: not port.server.connections.live, 30, "all to be gone")


async def test_a_chunked_body_is_counted_as_it_grows() -> None:
    async with gated(limit_bytes=16_384, max_body_bytes=BODY_BYTES) as port:
        chunks = b"transfer-encoding: chunked\r\n\r\n" + b"1000\r\n" + bytes(4_096) + b"\r\n"
        answer = await port.server.talk(SIGNED + chunks + b"1001\r\n" + bytes(4_097) + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 429")


@pytest.mark.parametrize(("size", "status"), [(400, 0), (1_000, 429)])
async def test_a_compressed_body_counts_as_what_it_is_once_it_is_decoded(
    size: int, status: int
) -> None:
    held: list[int] = []

    def hold(_request: Request, size_bytes: int) -> None:
        held.append(size_bytes)
        if size_bytes > 500:
            raise Overloaded("too many bytes")

    gateway = gateway_context(table({"near": 20.0}))
    routes = ClientRoutes(gateway, Health(lambda: True, "1.2.3"), 1_024, hold)
    body = gzip.compress(b"a" * size)
    headers = {
        b"authorization": b"Bearer " + SECRET.encode(),
        b"content-encoding": b"gzip",
    }
    request = Request("POST", b"/v1/chat/completions", headers, body, True, 0.0)
    answer = await routes.answer(request)
    assert held == [size - len(body)]
    assert (answer[0] if answer else 0) == status


@pytest.mark.parametrize("name", sorted(SINGLE_HEADERS | {b"x-edgeforge-residency"}))
async def test_a_header_that_decides_something_is_refused_when_it_is_repeated(name: bytes) -> None:
    twice = b"%b: 2\r\n%b: 2\r\n" % (name, name.title())
    async with gated() as port:
        answer = await port.server.talk(SIGNED + twice + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 400"), answer
        assert not port.refused, "nothing was decided by it"


async def test_a_list_that_proxies_lengthen_may_be_repeated() -> None:
    async with served() as server:
        head = CHAT + b"via: a\r\nvia: b\r\nx-forwarded-for: 1\r\nx-forwarded-for: 2\r\n"
        answer = await server.talk(head + b"connection: close\r\ncontent-length: 0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")


@pytest.fixture
def flood() -> Iterator[list[socket.socket]]:
    """Connections of a stranger, closed at the end."""
    opened: list[socket.socket] = []
    yield opened
    for one in opened:
        one.close()


def connect_from(source: str, port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 10, source_address=(source, 0))


async def test_a_flood_of_idle_connects_from_one_address_does_not_lock_customers_out(
    flood: list[socket.socket],
) -> None:
    async with gated(max_connections=64) as port:
        server = port.server
        for _ in range(300):
            flood.append(await asyncio.to_thread(connect_from, STRANGER, server.port))
        await wait_until_async(lambda: server.connections.accepted == 300, 30, "all accepted")
        assert len(server.connections.live) <= MIN_STRANGERS
        request = SIGNED + b"connection: close\r\ncontent-length: 2\r\n\r\nhi"
        assert (await server.talk(request)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /elsewhere HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\n\r\nGET /health HTTP/1.1\r\n",
    ],
    ids=["announced", "chunked", "next head"],
)
async def test_requests_without_a_key_that_never_end_do_not_lock_customers_out(
    flood: list[socket.socket], sent: bytes
) -> None:
    """A body for a route that takes none is no reason to keep a stranger's connection."""
    async with gated(max_connections=64) as port:
        server = port.server
        for number in range(100):
            flood.append(one := await asyncio.to_thread(connect_from, STRANGER, server.port))
            with contextlib.suppress(OSError):
                one.sendall(sent)
            await wait_until_async(
                lambda n=number: server.connections.accepted > n, 30, "it to be accepted"
            )
        request = SIGNED + b"connection: close\r\ncontent-length: 2\r\n\r\nhi"
        assert (await server.talk(request)).startswith(b"HTTP/1.1 200")


async def test_bodies_with_a_key_that_never_come_whole_do_not_lock_other_customers_out(
    flood: list[socket.socket],
) -> None:
    async with gated(max_connections=64) as port:
        server = port.server
        for number in range(80):
            flood.append(one := await asyncio.to_thread(connect_from, STRANGER, server.port))
            with contextlib.suppress(OSError):
                one.sendall(SIGNED + b"content-length: 9\r\n\r\n")
            await wait_until_async(
                lambda n=number: server.connections.accepted > n, 30, "it to be accepted"
            )
        await wait_until_async(lambda: server.connections.shares.total == 64, 30, "a full port")
        request = SIGNED + b"connection: close\r\ncontent-length: 2\r\n\r\nhi"
        assert (await server.talk(request)).startswith(b"HTTP/1.1 200")


async def test_who_has_shown_a_key_is_not_evicted_for_strangers(flood: list[socket.socket]) -> None:
    async with gated(max_connections=64) as port:
        server = port.server
        reader, writer = await server.connect()
        writer.write(SIGNED + b"content-length: 2\r\n\r\nhi")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        for _ in range(300):
            flood.append(await asyncio.to_thread(connect_from, STRANGER, server.port))
        await wait_until_async(lambda: server.connections.accepted == 301, 30, "all accepted")
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(b"/v1/chat/completions hi"))
        writer.write(SIGNED + b"content-length: 2\r\n\r\nhi")
        assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_port_whose_process_has_no_descriptor_left_pauses_and_recovers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with served() as server:
        left = [3]
        accept = socket.socket.accept

        def exhausted(listening: socket.socket) -> object:
            if left[0]:
                left[0] -= 1
                raise OSError(24, "Too many open files")
            return accept(listening)

        monkeypatch.setattr(socket.socket, "accept", exhausted)
        answer = await server.talk(CHAT + b"connection: close\r\ncontent-length: 0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")
        assert server.connections.exhausted == 3
        assert caplog.text.count("nothing is accepted for a moment") == 3
