"""Laws of the coordinator's memory: it follows from the change log alone, wherever it is read."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.core.node_orders import Move, NodeOrder, OrderKind, Phase
from coordinator.core.operators import Operator, Role
from coordinator.store import (
    accounts,
    audit,
    changes,
    deployments,
    keys,
    models,
    node_orders,
    nodes,
    operators,
    pops,
    prices,
    replicas,
    tokens,
)
from coordinator.store.records import AuditNote, Purpose, TokenRefused
from protos.domain.customers import Account
from protos.domain.errors import EdgeForgeError
from protos.domain.resources import (
    DesiredReplica,
    ModelSource,
    NodeHealth,
    NodeIntent,
    Price,
    ResourceType,
    Tier,
)
from protos.domain.routing_table import apply, digest_of, empty_table
from tests.support.stores import (
    BACKENDS,
    DAY_MS,
    FILES,
    GRU,
    IAD,
    MODEL,
    START_UNIX_MS,
    MemoryStore,
    api_key,
    deployment,
    registration,
    replica,
    token_record,
)

NODES = ("gru-1", "gru-2", "gru-3")
TABLES = [(one, "") for one in ResourceType if one is not ResourceType.DESIRED] + [
    (ResourceType.DESIRED, node_id) for node_id in NODES
]

node_ids = st.sampled_from(NODES)
generations = st.integers(1, 3)
model_names = st.sampled_from(["acme/m@1", "acme/n@1"])
key_ids = st.sampled_from(["k1", "k2", "k3"])
operator_names = st.sampled_from(["ana", "bo"])
token_ids = st.sampled_from(["t1", "t2"])
deployment_names = st.sampled_from(["chat", "code"])
orders = st.builds(
    NodeOrder,
    kind=st.sampled_from(OrderKind),
    by=st.just("operator/ana"),
    reason=st.sampled_from(["", "[/var/log] \u202e"]),
    at_unix_ms=st.integers(0, 9),
    phase=st.none() | st.sampled_from(Phase),
    moves=st.lists(st.builds(Move, deployment_names, model_names, node_ids), max_size=2).map(tuple),
    force=st.booleans(),
)


def desired(model):
    return DesiredReplica(model, ModelSource.MANAGED, FILES, 8_192)


#: Every verb of the store. One that is refused changes nothing.
STEPS = st.one_of(
    st.builds(pops.put, st.sampled_from([GRU, IAD, replace(GRU, city="Campinas")])),
    st.builds(
        nodes.enrol,
        node_ids,
        st.just("GRU"),
        st.integers(1, 5),
        st.integers(START_UNIX_MS - 1, START_UNIX_MS + DAY_MS),
    ),
    st.builds(
        nodes.note_certificate,
        node_ids,
        st.integers(1, 5),
        st.integers(START_UNIX_MS - 1, START_UNIX_MS + DAY_MS),
    ),
    st.just(nodes.forget_expired_names()),
    st.builds(nodes.remove, node_ids),
    st.builds(nodes.replace_by, node_ids, node_ids),
    st.builds(
        lambda node_id, port: nodes.register(replace(registration(node_id), peer_port=port)),
        node_ids,
        st.integers(1, 2),
    ),
    st.builds(nodes.set_health, st.dictionaries(node_ids, st.sampled_from(NodeHealth))),
    st.builds(
        nodes.set_intent,
        st.dictionaries(node_ids, st.tuples(st.sampled_from(NodeIntent), st.just("why"))),
    ),
    st.builds(
        lambda node_id, model, generation: replicas.report(
            [replica(node_id, model, generation)], []
        ),
        node_ids,
        model_names,
        generations,
    ),
    st.builds(
        lambda node_id, model: replicas.report([], [(node_id, model)]), node_ids, model_names
    ),
    st.builds(
        lambda node_id, wanted: replicas.set_desired(
            node_id, {one: desired(one) for one in wanted}
        ),
        node_ids,
        st.sets(model_names),
    ),
    st.builds(
        lambda name, files: models.register(replace(MODEL, name=name), files),
        model_names,
        st.sampled_from([FILES, ()]),
    ),
    st.builds(
        lambda name, pinned, budget_ms, create_only: deployments.put(
            replace(deployment(name), ttft_budget_ms=budget_ms), pinned, create_only=create_only
        ),
        deployment_names,
        st.lists(node_ids, max_size=2),
        st.integers(80, 81),
        st.booleans(),
    ),
    st.builds(deployments.remove, deployment_names),
    st.builds(
        deployments.set_pins, st.dictionaries(deployment_names, st.lists(node_ids, max_size=2))
    ),
    st.builds(
        lambda node_id, order, pins: node_orders.put(node_id, order, pins=pins),
        node_ids,
        st.none() | orders,
        st.none() | st.dictionaries(deployment_names, st.lists(node_ids, max_size=2)),
    ),
    st.builds(lambda name: accounts.create(Account(name)), st.sampled_from(["acme", "other"])),
    st.builds(lambda key_id: lambda tx: _toggle_key(tx, key_id), key_ids),
    st.builds(
        lambda version: prices.put([Price("xs", Tier.EDGE, 10, 2, 30, version)]), st.integers(1, 2)
    ),
    st.builds(
        lambda token_id, node_id: tokens.create(token_record(token_id, node_id)),
        token_ids,
        st.just("") | node_ids,
    ),
    st.builds(
        lambda token_id, serial: tokens.redeem(
            token_id,
            Purpose.NODE,
            public_key_sha256=b"k" * 32,
            certificate_pem=b"PEM",
            serial=serial,
            not_after_unix_ms=START_UNIX_MS + DAY_MS,
            actor="anonymous@10.0.0.1",
        ),
        token_ids,
        st.integers(1, 5),
    ),
    st.builds(
        lambda name, role, serial: operators.put(
            Operator(name, role, 1, "coordinator", b"k" * 32, serial, START_UNIX_MS + DAY_MS)
        ),
        operator_names,
        st.sampled_from(Role),
        st.integers(1, 5),
    ),
    st.builds(operators.revoke, operator_names),
    st.builds(operators.set_role, operator_names, st.sampled_from(Role)),
    st.just(audit.append(AuditNote("operator/ana", "looked", "fleet"))),
)


def _enrol(tx, node_id):
    if not nodes.is_enrolled(tx, node_id):
        nodes.enrol(node_id, "GRU", 1, START_UNIX_MS + DAY_MS)(tx)


def _toggle_key(tx, key_id):
    """Create or revoke a key; its digest differs each time, as those of real keys do."""
    if tx.get(ResourceType.CREDENTIALS, f"key/{key_id}") is None:
        ((seq,),) = tx.query("SELECT seq FROM log")
        keys.create(replace(api_key(key_id), digest=bytes([seq % 256]) * 32), 1)(tx)
    else:
        keys.revoke(key_id)(tx)


def attempt(store, step):
    """Write ``step`` as a caller does who is told when it is refused."""
    with suppress(EdgeForgeError, TokenRefused, sqlite3.IntegrityError):
        store.write(step)


def picture(memory):
    """Return all that a process can read in its memory."""
    tables = {name: memory.projection.table(*name) for name in TABLES}
    deltas = {
        (name, version): memory.projection.delta_since(*name, version)
        for name in TABLES
        for version in range(tables[name].at.version + 2)
    }
    return memory.seq, memory.fleet_id, tables, memory.projection.view, memory.facts, deltas


def fresh_store(backend="sqlite", path=None):
    store = MemoryStore(backend, path)
    store.write(pops.put(GRU))
    store.write(accounts.create(Account("acme")))
    store.write(models.register(MODEL, FILES))
    return store


def replayed(store, resource_type, scope):
    """Return the rows that the change log alone leads to, and the version it ends at."""
    rows, version = {}, 0
    for seq, key, payload in store.connection.execute(
        "SELECT seq, key, payload FROM changes WHERE type = ? AND scope = ? ORDER BY seq",
        (resource_type.value, scope),
    ):
        rows.pop(key, None)
        if payload is not None:
            rows[key] = payload
        version = seq
    return rows, version


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(steps=st.lists(STEPS, min_size=1, max_size=25))
def test_projection_is_the_replay_of_changes_and_survives_a_restart(steps):
    store = fresh_store()
    for step in steps:
        attempt(store, step)
    restarted = store.reloaded()
    for name in TABLES:
        table = store.projection.table(*name)
        rows, version = replayed(store, *name)
        assert dict(table.rows) == rows
        assert table.at.version == version
        assert table.digest == digest_of(rows)
        assert table.size_bytes == sum(len(key) + len(row) for key, row in rows.items())
    assert picture(restarted) == picture(store.memory)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    steps=st.lists(st.tuples(STEPS, st.booleans(), st.booleans()), min_size=1, max_size=25),
    loaded_after=st.integers(0, 25),
)
def test_a_second_reader_that_follows_the_log_has_the_writers_memory(
    tmp_path_factory, backend, steps, loaded_after
):
    path = tmp_path_factory.mktemp("log") / "coordinator.db"
    store = fresh_store(backend, path)
    with store.backend.reader() as caught_up:
        reader = caught_up(None)
        for number, (step, follows, compacts) in enumerate(steps):
            store.clock.unix_ms += 1
            attempt(store, step)
            if compacts:
                now = store.clock.unix_ms
                store.write(lambda tx, now=now: changes.compact_step(tx, now))
            if follows:
                reader = caught_up(reader)
                assert picture(reader) == picture(store.memory)
            if number == loaded_after:
                reader = caught_up(None)
        assert picture(caught_up(reader)) == picture(store.memory)
    store.close()


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(steps=st.lists(st.tuples(STEPS, st.integers(0, 4)), min_size=1, max_size=25))
def test_of_several_writers_only_the_last_commits_and_its_memory_has_what_the_others_did(
    tmp_path_factory, backend, steps
):
    path = tmp_path_factory.mktemp("log") / "coordinator.db"
    writers = [fresh_store(backend, path)]
    for step, who in steps:
        if who == 4:
            writers.append(MemoryStore(backend, path))
        writer = writers[-1 - min(who % 4, len(writers) - 1)]
        before = seq_of(writers[-1])
        attempt(writer, step)
        assert writer is writers[-1] or seq_of(writers[-1]) == before
    assert picture(writers[-1].memory) == picture(writers[-1].reloaded())
    seqs = [
        seq for (seq,) in writers[-1].connection.execute("SELECT seq FROM changes ORDER BY seq")
    ]
    assert seqs == list(range(1, len(seqs) + 1))
    for writer in writers:
        writer.close()


def seq_of(store):
    return store.connection.execute("SELECT seq FROM log").fetchone()[0]


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(steps=st.lists(STEPS, min_size=1, max_size=25))
def test_seqs_have_no_gaps_and_versions_never_fall(steps):
    store = fresh_store()
    versions = dict.fromkeys(TABLES, 0)
    for step in steps:
        attempt(store, step)
        for name in TABLES:
            version = store.projection.table(*name).at.version
            assert version >= versions[name]
            versions[name] = version
    seqs = [seq for (seq,) in store.connection.execute("SELECT seq FROM changes ORDER BY seq")]
    assert seqs == list(range(1, len(seqs) + 1))
    assert store.connection.execute("SELECT seq FROM log").fetchone() == (len(seqs),)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    steps=st.lists(STEPS, min_size=1, max_size=25),
    compact_at=st.integers(0, 25),
    restart=st.booleans(),
)
def test_a_delta_from_any_version_gives_the_present_table(steps, compact_at, restart):
    store = fresh_store()
    seen = {name: {} for name in TABLES}
    for number, step in enumerate(steps):
        store.clock.unix_ms += 1
        attempt(store, step)
        for name in TABLES:
            table = store.projection.table(*name)
            seen[name][table.at.version] = table
        if number == compact_at:
            now = store.clock.unix_ms
            store.write(lambda tx, now=now: changes.compact_step(tx, now))
    projection = store.reloaded().projection if restart else store.projection
    for name, by_version in seen.items():
        now_table = projection.table(*name)
        by_version.setdefault(0, replace(empty_table(name[0]), at=replace(now_table.at, version=0)))
        for version, old in by_version.items():
            delta = projection.delta_since(*name, version)
            if delta is None:
                # Only a version that compaction has passed may be unknown.
                assert compact_at < len(steps)
                assert version != now_table.at.version
                continue
            after = apply(old, delta)
            assert dict(after.rows) == dict(now_table.rows)
            assert after.digest == now_table.digest
            assert after.at == now_table.at
        assert projection.delta_since(*name, now_table.at.version + 1) is None


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(steps=st.lists(STEPS, min_size=1, max_size=25))
def test_without_compaction_every_version_has_a_delta(steps):
    store = fresh_store()
    versions = {name: {0} for name in TABLES}
    for step in steps:
        attempt(store, step)
        for name in TABLES:
            versions[name].add(store.projection.table(*name).at.version)
    for name, known in versions.items():
        assert all(store.projection.delta_since(*name, version) for version in known)


def test_repeating_a_write_changes_nothing():
    store = fresh_store()
    register_all(store)
    before = {name: store.projection.table(*name) for name in TABLES}
    register_all(store)
    assert {name: store.projection.table(*name) for name in TABLES} == before


def register_all(store):
    for node_id in NODES:
        store.write(lambda tx, node_id=node_id: _enrol(tx, node_id))
        store.write(nodes.register(registration(node_id)))
        store.write(replicas.report([replica(node_id)], []))
        store.write(replicas.set_desired(node_id, {MODEL.name: desired(MODEL.name)}))
