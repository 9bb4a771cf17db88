"""SQLite's files: one owner, one writer, whose they are, and what is no database of a fleet."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from coordinator.store import audit, pops
from coordinator.store.records import AuditNote
from coordinator.store.sqlite.connection import connect
from coordinator.store.sqlite.transactions import Seat, run_transaction
from coordinator.store.store import Store
from protos.domain.errors import ConfigInvalid, Conflict, NotFound, StoreUnavailable
from protos.domain.resources import ResourceType
from tests.support.stores import (
    GRU,
    IAD,
    audited,
)


async def test_a_second_owner_is_refused_until_the_first_closes(store, database, clock):
    with pytest.raises(Conflict, match="another coordinator"):
        await Store.open(database, now_unix_ms=clock)
    await store.close()
    again = await Store.open(database, now_unix_ms=clock)
    await again.close()


async def test_a_writer_that_was_replaced_is_refused_and_says_so(store, database, caplog):
    await store.write(pops.put(GRU))
    with closing(sqlite3.connect(database)) as other, other:
        other.execute("UPDATE log SET writer_epoch = writer_epoch + 1")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="taken over") as caught:
            await store.write(pops.put(IAD))
        assert not caught.value.retryable
        with pytest.raises(StoreUnavailable, match="taken over"):
            await store.write(audit.append(AuditNote("operator/ana", "looked", "fleet", "")))
    assert not store.available
    assert set(store.view().pops) == {"GRU"}
    assert await audited(store, 10) == []
    assert caplog.text.count("another coordinator writes to the database") == 1


async def test_what_another_writer_committed_is_taken_into_memory_at_the_next_commit(
    store, database, clock
):
    """A writer that is replaced may have committed after its successor read the tables."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        (epoch,) = other.execute("SELECT writer_epoch FROM log").fetchone()
        run_transaction(other, Seat(epoch, 0), clock(), pops.put(GRU), None)
    await store.write(pops.put(IAD))
    assert set(store.view().pops) == {"GRU", "IAD"}
    assert store.table(ResourceType.TOPOLOGY).at.version == 2


async def test_a_missing_database_is_not_created(tmp_path, clock):
    with pytest.raises(NotFound, match="no database"):
        await Store.open(tmp_path / "none.db", now_unix_ms=clock, must_exist=True)
    assert list(tmp_path.iterdir()) == []


async def test_a_newer_schema_is_refused_and_its_file_released(store, database, clock):
    await store.close()
    with closing(sqlite3.connect(database)) as other, other:
        other.execute("INSERT INTO migrations VALUES ('9999_future', 1)")
    for _ in range(2):  # the second time shows that the first released the file
        with pytest.raises(ConfigInvalid, match="newer version"):
            await Store.open(database, now_unix_ms=clock)


def foreign_database(path):
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE migrations (name TEXT)")


def database_with_our_names(path):
    with closing(sqlite3.connect(path)) as other, other:
        for table in ("migrations", "changes", "rows"):
            other.execute(f"CREATE TABLE {table} (name TEXT)")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
async def test_what_is_no_file_is_refused_and_not_waited_for(database, clock, make):
    make(database)
    with pytest.raises(ConfigInvalid, match="is not a file"):
        await Store.open(database, now_unix_ms=clock, must_exist=True)


@pytest.mark.parametrize("must_exist", [True, False])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"not a database at all" * 100), "is not a database"),
        (foreign_database, "of another program"),
        (database_with_our_names, "of another program"),
    ],
)
async def test_an_empty_or_foreign_database_starts_no_new_fleet_and_is_left_as_it_is(
    database, clock, make, says, must_exist
):
    make(database)
    before = database.read_bytes()
    for _ in range(2):  # the second time shows that the first released the file
        with pytest.raises(ConfigInvalid, match=says) as caught:
            await Store.open(database, now_unix_ms=clock, must_exist=must_exist)
        assert "restore BACKUP" in caught.value.hint
    assert database.read_bytes() == before


async def test_a_damaged_database_is_said_to_be_damaged_and_no_restart_is_tried(
    store, database, clock
):
    await store.write(pops.put(GRU))
    await store.close()
    pages = bytearray(database.read_bytes())
    pages[4_096:] = b"\xff" * (len(pages) - 4_096)
    database.write_bytes(pages)
    with pytest.raises(ConfigInvalid, match="damaged") as caught:
        await Store.open(database, now_unix_ms=clock)
    assert "restore" in caught.value.hint


async def test_only_its_owner_can_read_the_files(store, database):
    await store.write(pops.put(GRU))
    files = [path for path in database.parent.iterdir() if path.name.startswith(database.name)]
    assert {path.name.removeprefix(database.name) for path in files} == {
        "",
        "-wal",
        "-shm",
        ".lock",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_another_process_that_looks_into_the_database_deletes_no_log_of_ours(tmp_path):
    path = tmp_path / "usage.db"
    look = (
        "import sqlite3, sys; one = sqlite3.connect(sys.argv[1]);"
        "print(*one.execute('SELECT count(*) FROM t').fetchone()); one.close()"
    )

    def seen() -> str:
        argv = [sys.executable, "-c", look, str(path)]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    with closing(connect(path)) as writer:
        writer.execute("CREATE TABLE t (id INTEGER)")
        with closing(connect(path, read_only=True)) as reader:
            reader.execute("SELECT count(*) FROM t").fetchone()
            writer.execute("INSERT INTO t VALUES (1)")
            assert seen() == "1"
            writer.execute("INSERT INTO t VALUES (2)")
            assert seen() == "2"
