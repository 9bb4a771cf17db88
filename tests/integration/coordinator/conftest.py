"""A store on a real disk, and listeners on real ports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from coordinator import clock as real_clock
from coordinator.store.store import Store
from protos.v1 import admin_pb2_grpc
from tests.support.disks import mount_small_disk, unmount
from tests.support.operator_listeners import Listeners, listening
from tests.support.s3_server import S3Server, s3_server
from tests.support.stores import SetClock


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "coordinator.db"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if not mount_small_disk(folder, "1m"):
        pytest.skip("mounting a small disk needs privileges that this process does not have")
    yield folder
    unmount(folder)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A real S3 server; each test has a prefix of its own."""
    with s3_server() as running:
        yield running


OpenStore = Callable[..., Awaitable[Store]]

#: backend -> opens its database, which outlives what is opened
OPENERS: dict[str, Callable[..., Awaitable[Store]]] = {"sqlite": Store.open}


@pytest.fixture(params=OPENERS)
def open_store(request, database: Path, clock: SetClock) -> OpenStore:
    """Open the one database of a test, again and again, on each backend."""
    return partial(OPENERS[request.param], database, now_unix_ms=clock, busy_timeout_ms=200)


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncIterator[Store]:
    store = await open_store()
    yield store
    await store.close()


@pytest.fixture
async def listeners(tmp_path: Path, database: Path) -> AsyncIterator[Listeners]:
    """Listeners at today's date, since TLS uses the real clock."""
    today = SetClock(real_clock.now_unix_ms())
    store = await Store.open(database, now_unix_ms=today, busy_timeout_ms=200)
    async with listening(tmp_path, store, today) as listeners:
        yield listeners
    await store.close()


@pytest.fixture
async def admin(listeners: Listeners) -> AsyncIterator[admin_pb2_grpc.AdminAsyncStub]:
    """Administration, called by the operator ``ana``."""
    async with listeners.operator_channel() as channel:
        yield admin_pb2_grpc.AdminStub(channel)
