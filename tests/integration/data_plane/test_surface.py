"""The surfaces for this host: metrics port and administration socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from agent.admin.server import AdminServer
from agent.core.descriptors import SURFACE_CONNECTIONS
from agent.observability.server import MetricsServer
from protos.domain.errors import ConfigInvalid
from tests.support.strangers import MALFORMED, MARK, talk

STRANGER = ("127.0.0.66", 0)


@contextlib.asynccontextmanager
async def metrics(missing: tuple[str, ...] = ()) -> AsyncIterator[int]:
    server = MetricsServer("127.0.0.1", 0, CollectorRegistry(), lambda: list(missing))
    await server.start()
    try:
        yield server.port
    finally:
        await server.stop()


@pytest.mark.parametrize("sent", MALFORMED)
async def test_what_cannot_be_read_is_answered_in_our_words_and_leaves_no_line_in_the_log(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with metrics() as port:
            answer = await talk(port, sent)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] in (b"400", b"431")
    assert json.loads(body)["error"]
    assert b"server:" not in head.lower()
    assert b"python" not in answer.lower()
    assert MARK not in answer
    assert not [one for one in caplog.records if one.name != "asyncio"]


@pytest.mark.parametrize("check", [b"OPTIONS / HTTP/1.0", b"GET / HTTP/1.0", b"HEAD / HTTP/1.0"])
async def test_a_load_balancers_check_without_host_is_refused_without_a_line_in_the_log(
    check: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with metrics() as port:
        assert (await talk(port, check + b"\r\n\r\n")).startswith(b"HTTP/1.1 404")
    assert not caplog.records


async def test_a_check_of_health_needs_no_host() -> None:
    async with metrics() as port:
        assert (await talk(port, b"GET /readyz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert (await talk(port, b"HEAD /livez HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert (await talk(port, b"POST /livez HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 405")
        assert b"text/plain" in await talk(port, b"GET /metrics HTTP/1.0\r\n\r\n")
    async with metrics(("a table",)) as port:
        assert (await talk(port, b"GET /readyz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 503")


async def test_idle_connections_do_not_lock_the_health_check_out() -> None:
    async with metrics() as port:
        held = []
        for _ in range(4 * SURFACE_CONNECTIONS):
            held.append(await asyncio.open_connection("127.0.0.1", port, local_addr=STRANGER))
        assert (await talk(port, b"GET /livez HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200")
        for _, writer in held:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def test_a_file_in_the_place_of_the_socket_is_not_deleted(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[node]")
    admin = AdminServer(
        path,
        status=dict,
        requests=lambda limit: [],
        served=lambda limit: {},
        set_draining=lambda _: None,
    )
    with pytest.raises(ConfigInvalid, match="no socket"):
        await admin.start()
    assert path.read_text() == "[node]"


async def test_a_route_that_fails_is_500_and_the_socket_is_this_users_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> dict[str, object]:
        raise RuntimeError("a bug")

    path = tmp_path / "admin.sock"
    admin = AdminServer(
        path,
        status=broken,
        requests=lambda limit: [{"n": limit}],
        served=lambda limit: {},
        set_draining=lambda _: None,
    )
    await admin.start()
    try:
        assert path.stat().st_mode & 0o777 == 0o600
        for sent, status in ((b"/status", b"500"), (b"/requests?limit=7", b"200")):
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b"GET " + sent + b" HTTP/1.0\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 20)
            assert answer.split(b" ")[1] == status
            writer.close()
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"requests": [{"n": 7}]}
    finally:
        await admin.stop()
    assert not path.exists()
