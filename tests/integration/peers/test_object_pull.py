"""One object's pull: it ends when its last piece has come."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import agent.artifacts.object_pull as pulls
from agent.artifacts.means import Means
from agent.artifacts.object_pull import ObjectPull
from agent.artifacts.piece_file import PieceFile
from agent.artifacts.sources import NoPeers
from agent.clock import now_mono_ms
from agent.core.pull_budget import PullBudget
from protos.domain.resources import ModelFile
from tests.support.pulled_objects import digests_of, file_of

FIRST, LAST = b"first", b"the last one"


class LateOrigin:
    """Sends one file at once, and another when it is told to."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    @contextlib.asynccontextmanager
    async def keep_open(self) -> AsyncIterator[None]:
        yield

    async def fetch(
        self, sha256: bytes, offset_bytes: int, length_bytes: int = 0
    ) -> AsyncIterator[bytes]:
        if sha256 == file_of("a", FIRST).sha256:
            yield FIRST
            return
        await self.gate.wait()
        yield LAST

    async def piece_list(self, sha256: bytes) -> bytes:
        raise AssertionError("its files are of one piece")


async def test_a_file_that_arrives_while_another_is_published_is_not_waited_for_any_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other event wakes this pull: no peer is asked a second time."""
    monkeypatch.setattr(pulls, "_REFRESH_S", 3_600.0)
    origin, loop = LateOrigin(), asyncio.get_running_loop()
    published: list[str] = []
    budget = PullBudget(0, now_mono_ms())
    means = Means(origin, NoPeers(), budget, now_mono_ms, random.Random(1).random)

    def publish(file: ModelFile, _on_disk: PieceFile) -> None:
        if not published:
            loop.call_soon_threadsafe(origin.gate.set)
            arrived = threading.Event()
            while pull.verified_bytes < len(FIRST) + len(LAST):
                arrived.wait(0.001)
        published.append(file.path)

    pull = ObjectPull("acme/lora@1", means, publish=publish, on_trouble=lambda _: None)
    files = [file_of("a", FIRST), file_of("b", LAST)]
    async with asyncio.timeout(4):
        await pull.run(files, [digests_of(FIRST), digests_of(LAST)], tmp_path)
    assert published == ["a", "b"]
