"""A transaction: equal bytes are no change, failures are rolled back, rows have a limit."""

from __future__ import annotations

import pytest

from coordinator.store import pops, transaction
from protos.domain.errors import TooLarge
from protos.domain.resources import ResourceType
from tests.support.stores import GRU, IAD


def log(store):
    return store.connection.execute(
        "SELECT seq, key, payload IS NULL FROM changes ORDER BY seq"
    ).fetchall()


def test_equal_writes_change_nothing(store):
    store.write(pops.put(GRU))
    store.write(pops.put(GRU))
    assert log(store) == [(1, "pop/GRU", 0)]


def test_removing_is_logged_once(store):
    store.write(pops.put(GRU))
    assert store.write(lambda tx: tx.remove(ResourceType.TOPOLOGY, "pop/GRU"))
    assert not store.write(lambda tx: tx.remove(ResourceType.TOPOLOGY, "pop/GRU"))
    assert log(store) == [(1, "pop/GRU", 0), (2, "pop/GRU", 1)]
    assert store.projection.table(ResourceType.TOPOLOGY, "").at.version == 2


def test_a_failure_leaves_neither_row_nor_change(store):
    def fails(tx):
        tx.put(GRU)
        raise RuntimeError("midway")

    with pytest.raises(RuntimeError):
        store.write(fails)
    assert log(store) == []
    assert not store.reloaded().projection.view.pops


def test_several_changes_of_one_row_count_as_the_last(store):
    def both(tx):
        tx.put(GRU)
        tx.remove(ResourceType.TOPOLOGY, "pop/GRU")
        tx.put(IAD)

    store.write(both)
    assert set(store.projection.view.pops) == {"IAD"}
    assert store.projection.table(ResourceType.TOPOLOGY, "").at.version == 3


def test_a_row_that_no_agent_would_take_is_refused(store, monkeypatch):
    monkeypatch.setattr(transaction, "MAX_ROW_BYTES", 10)
    with pytest.raises(TooLarge):
        store.write(pops.put(GRU))
