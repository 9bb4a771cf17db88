"""Pins: the fact and the deployment's row change together."""

from __future__ import annotations

import pytest

from coordinator.store import accounts, deployments, models, nodes, pins, pops
from protos.domain.customers import Account
from tests.support.stores import FILES, GRU, MODEL, START_UNIX_MS, deployment


@pytest.fixture
def store(store):
    store.write(pops.put(GRU))
    for serial, node_id in enumerate(("gru-1", "gru-2")):
        store.write(nodes.enrol(node_id, "GRU", serial, START_UNIX_MS + 1))
    store.write(accounts.create(Account("acme")))
    store.write(models.register(MODEL, FILES))
    for one in (deployment("chat"), deployment("draft")):
        store.write(deployments.put(one, ["gru-1"], create_only=True))
    return store


def row(store, name="chat"):
    return store.projection.view.deployments[name].pins


def test_moved_pins_reach_the_row_of_their_deployment_only(store):
    store.write(lambda tx: pins.put(tx, "chat", ["gru-2", "gru-1", "gru-2"]))
    assert row(store) == {"gru-1", "gru-2"}
    assert row(store, "draft") == {"gru-1"}
    assert store.facts.placements == {"chat": ("gru-1", "gru-2"), "draft": ("gru-1",)}


def test_a_removed_node_leaves_the_pins_of_every_deployment(store):
    store.write(lambda tx: pins.put(tx, "chat", ["gru-1", "gru-2"]))
    store.write(nodes.remove("gru-1"))
    assert row(store) == {"gru-2"}
    assert row(store, "draft") == frozenset()
    assert store.reloaded().projection.view.deployments == store.projection.view.deployments


def test_a_replaced_node_gives_its_pins_to_the_other_in_the_rows_too(store):
    store.write(nodes.replace_by("gru-1", "gru-2"))
    assert row(store) == row(store, "draft") == {"gru-2"}
