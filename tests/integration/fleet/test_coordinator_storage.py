"""The coordinator cannot write; what clients and operators see of it."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.fleet import Fleet
from tests.support.waiting import wait_until


@contextlib.contextmanager
def locked_database(fleet: Fleet) -> Iterator[None]:
    """Hold the write lock of the coordinator's database, as a stray tool would."""
    path = fleet.state_dir / "coordinator" / "coordinator.db"
    assert path.is_file()
    connection = sqlite3.connect(path, timeout=30.0, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def test_database_locked_clients_notice_nothing_operators_are_told_and_it_resumes_by_itself(
    fleet: Fleet,
) -> None:
    agents = fleet.agents()
    with locked_database(fleet):
        for agent in agents:
            assert agent.chat().status == 200
        with pytest.raises((AssertionError, subprocess.TimeoutExpired)) as refused:
            fleet.edgeforge("key", "create", "--account", "default")
        assert "Traceback" not in str(refused.value)
        for agent in agents:
            assert agent.chat(stream=True).status == 200
            assert agent.status()["link"]["connected"]
    wait_until(lambda: _can_write(fleet), 30, "the coordinator to write again")
    log = fleet.log("coordinator")
    assert "locked" in log or "busy" in log
    assert "Traceback" not in log


def _can_write(fleet: Fleet) -> bool:
    with contextlib.suppress(AssertionError):
        fleet.edgeforge("key", "create", "--account", "default")
        return True
    return False
