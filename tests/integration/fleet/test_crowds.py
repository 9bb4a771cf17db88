"""A thousand clients at once, and what they cost."""

from __future__ import annotations

import asyncio
import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Fleet

CLIENTS = 1_000
#: Of one agent, for a thousand open requests: about 50 KiB each, and what was there before.
MOST_GROWTH_BYTES = 150 * 1024 * 1024


@pytest.fixture(scope="module")
def open_files() -> Iterator[None]:
    """Room for both ends of a thousand connections, here and in the agents started from here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8_192 if hard == resource.RLIM_INFINITY else min(8_192, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def crowd_fleet(
    open_files: None,
    engine: FakeEngineProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("w"), [engine.url]) as running:
        yield running


def rss_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def ask(agent: AgentClient, started: asyncio.Event) -> int:
    """Connect, wait for the others, ask, and return the status."""
    parts = urlsplit(agent.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        await started.wait()
        body = json.dumps({"model": agent.model, "messages": [], "stream": True}).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
            f"authorization: Bearer {agent.api_key}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await reader.read()
        assert b"data: [DONE]" in answer
        return int(answer.split(b" ", 2)[1])
    finally:
        writer.close()


@pytest.mark.parametrize("node", ["iad-1", "gru-1"])
async def test_a_thousand_connections_at_once_are_all_served_and_memory_stays_bounded(
    crowd_fleet: Fleet, node: str
) -> None:
    agent = crowd_fleet.agent(node)
    before = rss_bytes(agent.pid)
    started = asyncio.Event()
    tasks = [asyncio.create_task(ask(agent, started)) for _ in range(CLIENTS)]
    started.set()
    statuses = await asyncio.gather(*tasks)
    assert statuses == [200] * CLIENTS
    assert rss_bytes(agent.pid) - before < MOST_GROWTH_BYTES
    assert agent.chat().status == 200
