"""Nodes: registration, listing, removal; late reports of removed nodes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.store import accounts, deployments, models, nodes, pops, replicas
from coordinator.store.records import CertificateRecord
from protos.domain.customers import Account
from protos.domain.errors import NotFound
from protos.domain.resources import (
    DesiredReplica,
    ModelSource,
    NodeHealth,
    NodeIntent,
    ResourceType,
)
from tests.support.stores import (
    DAY_MS,
    FILES,
    GRU,
    MODEL,
    PROFILE,
    START_UNIX_MS,
    deployment,
    registration,
    replica,
)

DESIRED = DesiredReplica(MODEL.name, ModelSource.MANAGED, FILES, 8_192)


@pytest.fixture
def store(store):
    store.write(pops.put(GRU))
    store.write(nodes.enrol("gru-1", "GRU", 7, START_UNIX_MS + DAY_MS))
    return store


def register(store, **changes):
    store.write(nodes.register(replace(registration("gru-1"), **changes)))


def test_an_enrolled_node_is_known_but_not_listed(store):
    record = store.facts.nodes["gru-1"]
    assert (record.pop_id, record.engine_kind, record.profile) == ("GRU", "", None)
    assert record.certificates == (CertificateRecord(7, START_UNIX_MS + DAY_MS),)
    assert not store.projection.view.nodes


def test_registering_lists_it_ready_and_active(store):
    register(store)
    node = store.projection.view.nodes["gru-1"]
    assert (node.health, node.intent, node.pop_id) == (NodeHealth.READY, NodeIntent.ACTIVE, "GRU")
    assert store.facts.nodes["gru-1"].profile == PROFILE


def test_registering_again_keeps_health_and_intent_and_follows_addresses(store):
    register(store)
    store.write(nodes.set_health({"gru-1": NodeHealth.SUSPECT}))
    store.write(nodes.set_intent({"gru-1": (NodeIntent.DRAINING, "hot")}))
    register(store, peer_host="10.9.9.9", engine_kind="none")
    node = store.projection.view.nodes["gru-1"]
    assert (node.health, node.intent) == (NodeHealth.SUSPECT, NodeIntent.DRAINING)
    assert node.peer_host == "10.9.9.9"
    assert store.facts.nodes["gru-1"].engine_kind == "none"


def test_an_equal_registration_changes_no_table(store):
    register(store)
    at = store.projection.table(ResourceType.TOPOLOGY, "").at
    register(store, agent_version="0.2.0")
    store.write(nodes.set_health({"gru-1": NodeHealth.READY}))
    assert store.projection.table(ResourceType.TOPOLOGY, "").at == at
    assert store.facts.nodes["gru-1"].agent_version == "0.2.0"


def test_expired_certificates_are_forgotten_when_one_is_added(store):
    store.clock.unix_ms += 2 * DAY_MS
    later = store.clock.unix_ms + DAY_MS
    store.write(nodes.note_certificate("gru-1", 8, later))
    assert store.facts.nodes["gru-1"].certificates == (CertificateRecord(8, later),)


def test_desired_rows_are_the_nodes_own_and_replaced_as_a_whole(store):
    other = replace(DESIRED, model="acme/other@1")
    store.write(replicas.set_desired("gru-1", {one.model: one for one in (DESIRED, other)}))
    store.write(replicas.set_desired("gru-1", {other.model: other}))
    assert set(store.projection.table(ResourceType.DESIRED, "gru-1").rows) == {
        "replica/acme/other@1"
    }
    assert not store.projection.table(ResourceType.DESIRED, "").rows
    assert not store.projection.view.desired


def test_removal_deletes_every_row_that_names_the_node(store):
    register(store)
    store.write(accounts.create(Account("acme")))
    store.write(models.register(MODEL, FILES))
    store.write(deployments.put(deployment(), ["gru-1"], create_only=True))
    store.write(replicas.report([replica("gru-1")], []))
    store.write(replicas.set_desired("gru-1", {MODEL.name: DESIRED}))
    store.write(nodes.remove("gru-1"))
    view = store.projection.view
    assert "gru-1" not in view.nodes
    assert not view.replicas
    assert not store.projection.table(ResourceType.DESIRED, "gru-1").rows
    assert store.facts.placements == {"chat": ()}
    assert "gru-1" not in store.facts.nodes
    assert view.deployments


def test_a_node_that_replaces_another_gets_its_pins_and_the_other_is_removed(store):
    register(store)
    store.write(nodes.enrol("gru-2", "GRU", 8, START_UNIX_MS + DAY_MS))
    store.write(accounts.create(Account("acme")))
    store.write(models.register(MODEL, FILES))
    for name, pinned in (("chat", ["gru-1"]), ("both", ["gru-1", "gru-2"]), ("free", [])):
        store.write(deployments.put(deployment(name), pinned, create_only=True))
    assert store.write(nodes.replace_by("gru-1", "gru-2")) == ["both", "chat"]
    assert store.facts.placements == {"chat": ("gru-2",), "both": ("gru-2",), "free": ()}
    assert set(store.facts.nodes) == {"gru-2"}
    for old_id, new_id in (("gru-1", "gru-2"), ("gru-2", "gru-1")):
        with pytest.raises(NotFound, match="gru-1"):
            store.write(nodes.replace_by(old_id, new_id))
    assert set(store.facts.nodes) == {"gru-2"}


def test_the_name_of_a_removed_node_is_remembered_while_a_certificate_of_it_is_valid(store):
    store.write(nodes.remove("gru-1"))
    store.write(nodes.forget_expired_names())
    assert set(store.facts.certificates) == {"gru-1"}
    store.clock.unix_ms += 2 * DAY_MS
    store.write(nodes.forget_expired_names())
    assert not store.facts.certificates


def test_late_reports_of_a_removed_node_restore_nothing(store):
    register(store)
    store.write(nodes.remove("gru-1"))
    before = store.projection.table(ResourceType.DEPLOYMENTS, "").at
    store.write(replicas.report([replica("gru-1")], []))
    store.write(nodes.set_health({"gru-1": NodeHealth.READY}))
    store.write(replicas.set_desired("gru-1", {MODEL.name: DESIRED}))
    assert store.projection.table(ResourceType.DEPLOYMENTS, "").at == before
    assert not store.projection.table(ResourceType.DESIRED, "gru-1").rows
    with pytest.raises(NotFound):
        register(store)
    with pytest.raises(NotFound):
        store.write(nodes.note_certificate("gru-1", 9, START_UNIX_MS))


def test_replicas_come_and_go(store):
    register(store)
    store.write(replicas.report([replica("gru-1"), replica("gru-1", "a/b@1")], []))
    store.write(replicas.report([], [("gru-1", "a/b@1"), ("gru-1", "not/there@1")]))
    assert set(store.projection.view.replicas) == {MODEL.name}
