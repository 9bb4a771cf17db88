"""Backups: taken while the coordinator runs, restored under a higher epoch."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing

import pytest

from coordinator.store import pops
from coordinator.store.sqlite.backup import restore
from coordinator.store.sqlite.connection import DatabaseLock
from coordinator.store.store import Store
from protos.domain.errors import ConfigInvalid, Conflict, InvalidRequest, NotFound
from protos.domain.resources import ResourceType
from protos.domain.routing_table import Snapshot, TableRefused, apply
from tests.support.kills import killed_at_each_call
from tests.support.stores import GRU, IAD, START_UNIX_MS, SetClock, audited


@pytest.fixture
async def backup(store, database, tmp_path):
    """A backup with one POP, and a closed database that has two by now."""
    await store.write(pops.put(GRU))
    path = tmp_path / "backup.db"
    await store.backup(path)
    await store.write(pops.put(IAD))
    await store.close()
    return path


async def reopened(database):
    return await Store.open(database, now_unix_ms=SetClock(), must_exist=True)


async def test_a_restored_backup_is_newer_than_what_agents_hold(backup, database):
    gone_on = await reopened(database)
    held = gone_on.table(ResourceType.TOPOLOGY)
    await gone_on.close()
    epoch = restore(backup, database, now_unix_ms=START_UNIX_MS)
    store = await reopened(database)
    assert store.epoch == epoch > held.at.epoch
    assert store.view().pops == {"GRU": GRU}
    table = store.table(ResourceType.TOPOLOGY)
    assert table.at.version < held.at.version
    # An agent that was ahead accepts it, and refuses the old one.
    taken = apply(held, Snapshot(table.type, table.at, table.rows, table.digest))
    assert taken == table
    with pytest.raises(TableRefused):
        apply(taken, Snapshot(held.type, held.at, held.rows, held.digest))
    (entry,) = await audited(store, 10)
    assert (entry.note.action, entry.note.subject) == ("database.restored", "backup.db")
    await store.close()


async def test_a_restored_backup_is_of_the_same_fleet_and_another_database_is_not(
    backup, database, tmp_path
):
    gone_on = await reopened(database)
    fleet_id = gone_on.fleet_id
    await gone_on.close()
    restore(backup, database, now_unix_ms=START_UNIX_MS)
    restored = await reopened(database)
    other = await Store.open(tmp_path / "other.db", now_unix_ms=SetClock())
    assert len(fleet_id) == 32
    assert restored.fleet_id == fleet_id != other.fleet_id
    await restored.close()
    await other.close()


async def test_each_restore_is_above_all_earlier_ones_even_on_a_new_disk(backup, database):
    first = restore(backup, database, now_unix_ms=START_UNIX_MS)
    second = restore(backup, database, now_unix_ms=START_UNIX_MS)
    assert second == first + 1
    database.unlink()
    third = restore(backup, database, now_unix_ms=START_UNIX_MS + 5_000)
    assert third > second


async def test_the_replaced_database_is_kept_beside_the_restored_one(backup, database, tmp_path):
    restore(backup, database, now_unix_ms=START_UNIX_MS)
    kept = tmp_path / f"coordinator.db.before-{START_UNIX_MS}"
    with closing(sqlite3.connect(kept)) as old:
        keys = {key for (key,) in old.execute("SELECT key FROM rows")}
    assert keys == {"pop/GRU", "pop/IAD"}


async def test_a_damaged_database_can_be_replaced(backup, database):
    database.write_bytes(b"scrambled" * 1_000)
    restore(backup, database, now_unix_ms=START_UNIX_MS)
    store = await reopened(database)
    assert store.view().pops == {"GRU": GRU}
    await store.close()


async def test_the_database_of_a_running_coordinator_is_not_replaced(backup, database):
    owner = DatabaseLock(database)
    with pytest.raises(Conflict, match="another coordinator"):
        restore(backup, database, now_unix_ms=START_UNIX_MS)
    owner.release()


@pytest.mark.parametrize("content", [b"", b"not a database" * 100])
async def test_a_file_that_is_no_backup_replaces_nothing(backup, database, content):
    before = database.read_bytes()
    backup.write_bytes(content)
    with pytest.raises(InvalidRequest):
        restore(backup, database, now_unix_ms=START_UNIX_MS)
    assert database.read_bytes() == before


async def test_a_truncated_backup_replaces_nothing(backup, database):
    before = database.read_bytes()
    backup.write_bytes(backup.read_bytes()[: backup.stat().st_size // 2])
    with pytest.raises(InvalidRequest):
        restore(backup, database, now_unix_ms=START_UNIX_MS)
    assert database.read_bytes() == before
    assert not list(database.parent.glob("*.restoring*"))


async def test_a_backup_of_a_newer_version_is_refused(backup, database):
    with closing(sqlite3.connect(backup)) as other, other:
        other.execute("INSERT INTO migrations VALUES ('9999_future', 1)")
    with pytest.raises(ConfigInvalid, match="newer version"):
        restore(backup, database, now_unix_ms=START_UNIX_MS)


def test_a_missing_backup_is_named(tmp_path):
    with pytest.raises(NotFound):
        restore(tmp_path / "none", tmp_path / "coordinator.db", now_unix_ms=START_UNIX_MS)


async def test_backups_are_private_and_never_overwritten(backup, database):
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    store = await reopened(database)
    with pytest.raises(Conflict, match="exists"):
        await store.backup(backup)
    await store.close()


async def test_a_restore_killed_at_any_call_leaves_the_old_database_or_the_new_one(
    backup, database, tmp_path
):
    """Between two renames there was none: `serve` said that there is no coordinator yet."""
    kept = tmp_path / "kept.db"
    kept.write_bytes(database.read_bytes())
    seen = set()

    def prepare():
        for path in database.parent.glob(f"{database.name}*"):
            path.unlink()
        database.write_bytes(kept.read_bytes())

    def epoch():
        with closing(sqlite3.connect(database)) as connection:
            (value,) = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
            return int(value)

    old = epoch()

    for _ in killed_at_each_call(
        prepare, lambda: restore(backup, database, now_unix_ms=START_UNIX_MS)
    ):
        seen.add(epoch())
    assert seen == {old, START_UNIX_MS // 1_000}
    aside = database.with_name(f"{database.name}.before-{START_UNIX_MS}")
    assert aside.read_bytes() == kept.read_bytes(), "what was replaced is kept"
