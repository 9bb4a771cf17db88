"""The delaying relay with real sockets: never early, in order, and broken on command."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from coordinator.devfleet.delay_config import Listener
from tests.support.delay_relay import DelayRelayProcess
from tests.support.ports import free_ports
from tests.support.waiting import wait_until_async

RTT_MS = 60.0
BOM, GRU, STRANGER = "127.9.0.1", "127.9.0.2", "127.9.0.3"


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
async def target() -> AsyncIterator[int]:
    """A server at DXB that says back what it hears."""
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
def relay_port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def relay(tmp_path: Path, target: int, relay_port: int) -> Iterator[DelayRelayProcess]:
    with DelayRelayProcess(
        tmp_path,
        sources={BOM: "BOM", GRU: "GRU"},
        round_trips_ms={"BOM": {"DXB": RTT_MS}, "GRU": {"DXB": 5.0}},
        listeners=[Listener("DXB", relay_port, target)],
    ) as running:
        yield running


async def dial(port: int, source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    writer.write(data)
    return await asyncio.wait_for(reader.readexactly(len(data)), 20)


async def has_ended(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Wait for a connection to end without a word more; close this side of it too."""
    try:
        return await asyncio.wait_for(reader.read(1), 20) == b""
    except ConnectionError:
        return True
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def is_refused(port: int, source: str) -> bool:
    """Whether a new connection is reset."""
    try:
        reader, writer = await dial(port, source)
    except ConnectionError:
        return True
    writer.write(b"x")
    return await has_ended(reader, writer)


async def test_a_first_answer_takes_two_round_trips_and_the_next_one(
    relay: DelayRelayProcess, relay_port: int
) -> None:
    began_s = time.monotonic()
    reader, writer = await dial(relay_port, BOM)
    assert await ask(reader, writer, b"hello") == b"hello"
    assert (time.monotonic() - began_s) * 1_000 >= 2 * RTT_MS, "handshake and question"
    began_s = time.monotonic()
    assert await ask(reader, writer, b"again") == b"again"
    assert (time.monotonic() - began_s) * 1_000 >= RTT_MS
    writer.close()


async def test_bytes_keep_their_order_and_none_is_lost(
    relay: DelayRelayProcess, relay_port: int
) -> None:
    reader, writer = await dial(relay_port, GRU)
    data = b"".join(b"%08d" % number for number in range(500_000))
    writer.write(data)
    assert await asyncio.wait_for(reader.readexactly(len(data)), 30) == data
    writer.close()


async def test_an_end_travels_and_the_other_direction_goes_on(
    relay: DelayRelayProcess, relay_port: int
) -> None:
    reader, writer = await dial(relay_port, GRU)
    writer.write(b"last words")
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 20) == b"last words"
    writer.close()


async def test_who_is_not_known_is_reset(relay: DelayRelayProcess, relay_port: int) -> None:
    assert await is_refused(relay_port, STRANGER)


async def test_one_way_holds_what_goes_there_and_healing_delivers_it(
    relay: DelayRelayProcess, relay_port: int
) -> None:
    reader, writer = await dial(relay_port, BOM)
    assert await ask(reader, writer, b"before") == b"before"
    relay.fault("one-way", "BOM", "DXB")
    writer.write(b"held")
    other_reader, other_writer = await dial(relay_port, GRU)
    assert await ask(other_reader, other_writer, b"others pass") == b"others pass"
    answer = asyncio.create_task(reader.readexactly(4))
    for _ in range(20):  # each a round trip of another source through the same relay
        await ask(other_reader, other_writer, b"x")
    assert not answer.done()
    relay.fault("heal", "BOM", "DXB")
    assert await asyncio.wait_for(answer, 20) == b"held"
    writer.close()
    other_writer.close()


async def test_half_open_accepts_and_says_nothing_and_is_reset_on_healing(
    relay: DelayRelayProcess, relay_port: int
) -> None:
    relay.fault("half-open", "BOM", "DXB")
    reader, writer = await dial(relay_port, BOM)
    writer.write(b"anybody?")
    silence = asyncio.create_task(reader.read(1))
    other_reader, other_writer = await dial(relay_port, GRU)
    for _ in range(20):
        await ask(other_reader, other_writer, b"x")
    assert not silence.done()
    relay.fault("heal", "BOM", "DXB")
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(silence, 20) == b""
    assert await has_ended(reader, writer)
    other_writer.close()


async def test_refusing_resets_standing_connections_too(
    relay: DelayRelayProcess, relay_port: int
) -> None:
    reader, writer = await dial(relay_port, BOM)
    assert await ask(reader, writer, b"fine") == b"fine"
    relay.fault("refuse", "BOM", "DXB")
    assert await has_ended(reader, writer)
    assert await is_refused(relay_port, BOM)


async def test_a_target_that_is_not_there_is_a_reset(tmp_path: Path) -> None:
    port, nobody = free_ports(2)
    with DelayRelayProcess(
        tmp_path,
        sources={BOM: "BOM"},
        round_trips_ms={"BOM": {"DXB": 5.0}},
        listeners=[Listener("DXB", port, nobody)],
    ):
        assert await is_refused(port, BOM)


async def test_connections_that_end_leave_nothing_behind(
    relay: DelayRelayProcess, relay_port: int
) -> None:
    assert relay.process is not None
    files = Path(f"/proc/{relay.process.pid}/fd")
    before = len(list(files.iterdir()))
    for _ in range(20):
        reader, writer = await dial(relay_port, GRU)
        await ask(reader, writer, b"x")
        writer.close()
    await wait_until_async(lambda: len(list(files.iterdir())) <= before, 20, "sockets to be closed")


def test_a_configuration_that_cannot_be_read_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    done = subprocess.run(
        [sys.executable, "-m", "coordinator.devfleet.delay_relay", str(tmp_path / "bad.json")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78
    assert "Traceback" not in done.stderr
