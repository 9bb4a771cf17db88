"""When keys were last used, as records of usage say."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest

from coordinator.usage.key_use_schema import KEY_USE_MIGRATIONS
from coordinator.usage.key_uses import KeyUseWriter
from coordinator.usage.migration import migrate
from tests.support.usage_fleet import record

MINUTE_MS = 60_000


@pytest.fixture
def connection():
    with sqlite3.connect(":memory:", isolation_level=None) as made:
        migrate(made, KEY_USE_MIGRATIONS, 1)
        yield made
    made.close()


def used(key_id: str, minute: int, more_ms: int = 0):
    return replace(record(), key_id=key_id, began_unix_ms=minute * MINUTE_MS + more_ms)


def rows(connection) -> dict[str, int]:
    return {key: at // MINUTE_MS for key, at in connection.execute("SELECT * FROM key_uses")}


def test_the_newest_minute_of_each_key_is_kept(connection):
    writer = KeyUseWriter()
    writer.note(connection, [used("a", 5, 59_999), used("b", 7), used("a", 4), used("", 9)])
    assert rows(connection) == {"a": 5, "b": 7}
    writer.note(connection, [used("a", 3), used("b", 8)])
    assert rows(connection) == {"a": 5, "b": 8}


def test_a_busy_key_is_written_once_a_minute(connection):
    writer = KeyUseWriter()
    writer.note(connection, [used("a", 5)])
    changes = connection.total_changes
    for more_ms in range(0, 60_000, 6_000):
        writer.note(connection, [used("a", 5, more_ms)])
    assert connection.total_changes == changes


def test_what_was_undone_is_written_again(connection):
    writer = KeyUseWriter()
    connection.execute("BEGIN")
    writer.note(connection, [used("a", 5)])
    connection.execute("ROLLBACK")
    writer.forget()
    writer.note(connection, [used("a", 5)])
    assert rows(connection) == {"a": 5}


def test_late_records_after_a_restart_make_no_use_older(connection):
    KeyUseWriter().note(connection, [used("a", 9)])
    KeyUseWriter().note(connection, [used("a", 2)])
    assert rows(connection) == {"a": 9}
