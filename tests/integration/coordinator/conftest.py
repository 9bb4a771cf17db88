"""A store on a real disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from coordinator.store.store import Store
from tests.support.disks import mount_small_disk, unmount
from tests.support.stores import SetClock


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "coordinator.db"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB that really runs full."""
    folder = tmp_path / "small"
    folder.mkdir()
    if not mount_small_disk(folder, "1m"):
        pytest.skip("mounting a small disk needs privileges that this process does not have")
    yield folder
    unmount(folder)


@pytest.fixture
async def store(database: Path, clock: SetClock) -> AsyncIterator[Store]:
    store = await Store.open(database, now_unix_ms=clock, busy_timeout_ms=200)
    yield store
    await store.close()
