"""Models are immutable versions; deployments keep their account."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.store import accounts, deployments, models, nodes, pops
from protos.domain.customers import Account
from protos.domain.errors import Conflict, NotFound
from protos.domain.resources import ResourceType
from tests.support.stores import FILES, GRU, MODEL, START_UNIX_MS, deployment


@pytest.fixture
def store(store):
    store.write(pops.put(GRU))
    store.write(nodes.enrol("gru-1", "GRU", 1, START_UNIX_MS + 1))
    for account_id in ("acme", "other"):
        store.write(accounts.create(Account(account_id)))
    store.write(models.register(MODEL, FILES))
    return store


def put(store, wanted, node_ids=("gru-1",), create_only=False):
    store.write(deployments.put(wanted, node_ids, create_only=create_only))


def test_a_model_and_its_files_are_kept(store):
    assert store.projection.view.models[MODEL.name] == MODEL
    assert store.facts.manifests[MODEL.name] == FILES


def test_registering_the_same_again_changes_nothing(store):
    at = store.projection.table(ResourceType.DEPLOYMENTS, "").at
    store.write(models.register(MODEL, FILES))
    assert store.projection.table(ResourceType.DEPLOYMENTS, "").at == at


def test_a_version_never_changes(store):
    with pytest.raises(Conflict, match="other content") as caught:
        store.write(models.register(replace(MODEL, manifest_sha256=b"x" * 32), FILES))
    assert not caught.value.retryable


def test_a_deployment_is_placed_where_asked_and_replaced(store):
    put(store, deployment())
    assert store.facts.placements == {"chat": ("gru-1",)}
    put(store, replace(deployment(), ttft_budget_ms=200), ())
    assert store.facts.placements == {"chat": ()}
    assert store.projection.view.deployments["chat"].ttft_budget_ms == 200


@pytest.mark.parametrize(
    ("wanted", "node_ids", "says"),
    [
        (deployment(account_id="nobody"), (), "no account 'nobody'"),
        (deployment(model="acme/none@1"), (), "no model 'acme/none@1'"),
        (deployment(), ("gru-9",), "no node 'gru-9'"),
    ],
)
def test_a_deployments_account_model_and_nodes_must_exist(store, wanted, node_ids, says):
    with pytest.raises(NotFound, match=says) as caught:
        put(store, wanted, node_ids)
    assert caught.value.hint
    assert not store.projection.view.deployments


def test_create_only_refuses_an_existing_one(store):
    put(store, deployment(), create_only=True)
    with pytest.raises(Conflict, match="exists"):
        put(store, deployment(), create_only=True)


def test_a_deployment_cannot_change_its_account(store):
    put(store, deployment())
    with pytest.raises(Conflict, match="belongs to account 'acme'"):
        put(store, deployment(account_id="other"))


def test_removal(store):
    put(store, deployment())
    store.write(deployments.remove("chat"))
    assert not store.projection.view.deployments
    assert not store.facts.placements
    with pytest.raises(NotFound):
        store.write(deployments.remove("chat"))


def test_pins_travel_in_the_deployments_row(store):
    put(store, deployment())
    assert store.projection.view.deployments["chat"].pins == {"gru-1"}
    put(store, deployment(), ())
    assert store.projection.view.deployments["chat"].pins is None, "any node with a replica"


def test_a_deployment_whose_last_node_is_removed_is_served_nowhere_rather_than_anywhere(store):
    put(store, deployment())
    store.write(nodes.remove("gru-1"))
    left = store.projection.view.deployments["chat"]
    assert left.pins == frozenset()
    put(store, replace(left, ttft_budget_ms=200), ())
    assert store.projection.view.deployments["chat"].pins == frozenset(), "still no node"
