"""Pulls that end while others begin, and objects that are not there any more."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

import pytest

from agent.artifacts.objects import ObjectStore
from protos.domain.errors import NotFound
from tests.support.pulled_objects import CONFIG, file_of, make_store, model_of, noise

WEIGHTS = noise(10_000)
MODEL = model_of(file_of("config.json", CONFIG), file_of("model.safetensors", WEIGHTS))


class MemoryOrigin:
    """The coordinator's files; a fetch waits while ``gate`` is closed."""

    def __init__(self) -> None:
        self.data = {
            file.sha256: data for file, data in zip(MODEL.files, (CONFIG, WEIGHTS), strict=True)
        }
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()

    def keep_open(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def fetch(
        self, sha256: bytes, offset_bytes: int, length_bytes: int = 0
    ) -> AsyncIterator[bytes]:
        self.asked.set()
        await self.gate.wait()
        yield self.data[sha256][offset_bytes : offset_bytes + length_bytes]

    async def piece_list(self, sha256: bytes) -> bytes:
        raise NotFound("files of one piece have none")


def store_in(folder: Path) -> tuple[ObjectStore, MemoryOrigin]:
    origin = MemoryOrigin()
    store = make_store(folder, origin)
    store.set_desired({MODEL.model: MODEL}, {})
    return store, origin


async def test_a_pull_that_ends_before_it_begins_can_be_begun_again(tmp_path: Path) -> None:
    store, _ = store_in(tmp_path)
    first = asyncio.create_task(store.ensure(MODEL))
    await asyncio.sleep(0)  # it has made its pull, which has not run yet
    store.set_desired({}, {})
    with pytest.raises(NotFound):
        await first
    store.set_desired({MODEL.model: MODEL}, {})
    assert (await store.ensure(MODEL) / "model.safetensors").read_bytes() == WEIGHTS


async def test_an_order_that_is_withdrawn_and_given_again_at_once_is_pulled(
    tmp_path: Path,
) -> None:
    store, origin = store_in(tmp_path)
    origin.gate.clear()
    first = asyncio.create_task(store.ensure(MODEL))
    await origin.asked.wait()
    store.set_desired({}, {})
    store.set_desired({MODEL.model: MODEL}, {})
    again = asyncio.create_task(store.ensure(MODEL))  # while the first is still ending
    origin.gate.set()
    with pytest.raises(NotFound):
        await first
    assert (await again / "model.safetensors").read_bytes() == WEIGHTS


async def test_an_object_whose_folder_was_removed_is_pulled_again(tmp_path: Path) -> None:
    store, _ = store_in(tmp_path)
    path = await store.ensure(MODEL)
    shutil.rmtree(path)
    assert (await store.ensure(MODEL) / "model.safetensors").read_bytes() == WEIGHTS


async def test_a_thousand_who_wait_for_one_pull_that_is_cut_are_told_and_hold_nothing(
    tmp_path: Path,
) -> None:
    store, origin = store_in(tmp_path)
    origin.gate.clear()
    waiting = [asyncio.create_task(store.ensure(MODEL)) for _ in range(1_000)]
    await origin.asked.wait()
    store.set_desired({}, {})
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(one, NotFound) for one in results)
    assert store.progress() == {}
    assert store.disk().pinned_bytes == 0
