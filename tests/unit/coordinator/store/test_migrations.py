"""Migrations: once each, in order, never backwards."""

from __future__ import annotations

import sqlite3

import pytest

from coordinator.store import migrations
from coordinator.store.migrations import REGISTRY, applied_migrations, migrate
from protos.domain.errors import ConfigInvalid


@pytest.fixture
def connection():
    with sqlite3.connect(":memory:", isolation_level=None) as connection:
        yield connection
    connection.close()


def test_all_are_applied_once(connection):
    assert migrate(connection, 1) == tuple(REGISTRY)
    assert migrate(connection, 2) == ()
    assert applied_migrations(connection) == REGISTRY.keys()


def test_only_the_missing_ones_are_applied(connection, monkeypatch):
    migrate(connection, 1)

    def add_column(database):
        database.table("nodes").add_column("rack", str)

    monkeypatch.setitem(migrations.REGISTRY, "9999_rack", add_column)
    assert migrate(connection, 2) == ("9999_rack",)
    connection.execute("SELECT rack FROM nodes")


def test_a_failing_migration_changes_nothing(connection, monkeypatch):
    migrate(connection, 1)

    def broken(database):
        database.execute("CREATE TABLE half (a)")
        raise RuntimeError("power cut")

    monkeypatch.setitem(migrations.REGISTRY, "9999_broken", broken)
    with pytest.raises(RuntimeError):
        migrate(connection, 2)
    assert "9999_broken" not in applied_migrations(connection)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        connection.execute("SELECT * FROM half")


def test_a_database_of_a_newer_version_is_refused_and_untouched(connection):
    migrate(connection, 1)
    connection.execute("INSERT INTO migrations VALUES ('9999_future', 5)")
    with pytest.raises(ConfigInvalid, match=r"newer version.*9999_future"):
        migrate(connection, 2)


def test_names_are_numbered_without_gaps():
    assert [int(name[:4]) for name in REGISTRY] == list(range(1, len(REGISTRY) + 1))
