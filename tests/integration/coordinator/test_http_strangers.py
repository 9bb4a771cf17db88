"""The coordinator's HTTP port and strangers: what they are told, and what they can hold."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

import coordinator.api.listener
from coordinator.api.http import HttpListener, HttpParts
from coordinator.api.http_protocol import HttpConnections
from coordinator.api.listener import Listener
from coordinator.api.tls import tls_of_pair
from coordinator.ca.authority import CertificateAuthority
from coordinator.clock import now_unix_ms
from protos.domain.price_card import PriceCard
from protos.domain.resources import NO_TERMS
from tests.support.strangers import MALFORMED, MARK, talk

UNREADABLE = [
    *MALFORMED,
    MARK + b" / HTTP/1.1\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nhost: a\r\nhost: " + MARK + b"\r\n\r\n",
]
LIMIT = 32


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[int]:
    parts = HttpParts(
        missing=list,
        card=lambda: (PriceCard((), NO_TERMS), None),
        now_unix_ms=lambda: 0,
        metrics=CollectorRegistry(),
    )
    listener = HttpListener(parts, "127.0.0.1", 0, max_connections=LIMIT)
    await listener.start()
    try:
        yield listener.port
    finally:
        await listener.close()


@pytest.mark.parametrize("sent", UNREADABLE)
async def test_what_cannot_be_read_is_answered_in_our_words_and_leaves_no_line_in_the_log(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with listening() as port:
            answer = await talk(port, sent)
    assert answer.split(b" ")[1] in (b"400", b"431"), answer
    assert b"server:" not in answer.lower()
    assert b"python" not in answer.lower()
    assert b"<html" not in answer.lower()
    assert MARK not in answer
    assert not caplog.records


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"OPTIONS / HTTP/1.0", b"404"),
        (b"GET / HTTP/1.0", b"404"),
        (b"OPTIONS /livez HTTP/1.0", b"405"),
        (b"GET /livez HTTP/1.0", b"200"),
        (b"GET /readyz HTTP/1.0", b"200"),
        (b"GET /metrics HTTP/1.0", b"200"),
    ],
)
async def test_a_load_balancers_check_without_host_writes_no_traceback_and_gets_no_banner(
    sent: bytes, status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening() as port:
        answer = await talk(port, sent + b"\r\n\r\n")
    assert answer.split(b" ")[1] == status, answer
    assert b"server:" not in answer.lower()
    assert not caplog.records


async def test_idle_connections_of_a_stranger_do_not_lock_others_out() -> None:
    async with listening() as port:
        held = [
            await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.66", 0))
            for _ in range(4 * LIMIT)
        ]
        answer = await talk(port, b"GET /livez HTTP/1.0\r\n\r\n")
        assert answer.split(b" ")[1] == b"200"
        for _, writer in held:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def over_tls(folder: Path) -> AsyncIterator[Listener]:
    authority = CertificateAuthority.create(folder / "ca", now_unix_ms=now_unix_ms)
    tls = tls_of_pair(*authority.new_coordinator("coordinator", ["localhost"]))
    app = web.Application()

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app.router.add_get("/", hello)
    listener = Listener("api", app, HttpConnections(LIMIT), "127.0.0.1", 0, tls=tls)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.close()


async def test_connections_without_a_handshake_are_counted_and_lock_nobody_out(
    tmp_path: Path,
) -> None:
    """A stranger that opens connections only must not take all descriptors of the coordinator."""
    async with over_tls(tmp_path) as listener:
        held = [
            await asyncio.open_connection("127.0.0.1", listener.port, local_addr=("127.0.0.66", 0))
            for _ in range(4 * LIMIT)
        ]
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=trusting)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            assert (await reader.read()).endswith(b"hello")
        writer.close()
        assert len(listener._opening) <= LIMIT
        ended = 0
        for stream, _ in held:
            with contextlib.suppress(TimeoutError, ConnectionError):
                ended += await asyncio.wait_for(stream.read(1), 0.001) == b""
        assert ended >= 3 * LIMIT // 2
        for _, writer in held:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def test_a_connection_that_never_shakes_hands_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator.api.listener, "_HANDSHAKE_TIMEOUT_S", 0.05)
    async with over_tls(tmp_path) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        assert not listener._opening
