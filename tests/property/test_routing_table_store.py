"""Laws of the coordinator's tables: memory, disk and change log always agree."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.store import changes, customers, nodes, registry
from protos.domain.resources import (
    Account,
    DesiredReplica,
    ModelSource,
    NodeHealth,
    ResourceType,
)
from protos.domain.routing_table import apply, digest_of, empty_table
from tests.support.stores import (
    DAY_MS,
    FILES,
    GRU,
    MODEL,
    START_UNIX_MS,
    MemoryStore,
    api_key,
    registration,
    replica,
)

NODES = ("gru-1", "gru-2", "gru-3")
TABLES = [(one, "") for one in ResourceType if one is not ResourceType.DESIRED] + [
    (ResourceType.DESIRED, node_id) for node_id in NODES
]

node_ids = st.sampled_from(NODES)
generations = st.integers(1, 3)
models = st.sampled_from(["acme/m@1", "acme/n@1"])
keys = st.sampled_from(["k1", "k2", "k3"])


def desired(model):
    return DesiredReplica(model, ModelSource.MANAGED, FILES, 8_192)


STEPS = st.one_of(
    st.builds(lambda n: lambda tx: _enrol(tx, n), node_ids),
    st.builds(lambda n: lambda tx: _if_enrolled(tx, n, nodes.remove), node_ids),
    st.builds(
        lambda n, port: (
            lambda tx: _if_enrolled(
                tx,
                n,
                lambda tx, n: nodes.register(tx, replace(registration(n), peer_port=port)),
            )
        ),
        node_ids,
        st.integers(1, 2),
    ),
    st.builds(
        lambda healths: lambda tx: nodes.set_health(tx, healths),
        st.dictionaries(node_ids, st.sampled_from(NodeHealth)),
    ),
    st.builds(
        lambda n, m, g: lambda tx: nodes.put_replicas(tx, [replica(n, m, g)], []),
        node_ids,
        models,
        generations,
    ),
    st.builds(lambda n, m: lambda tx: nodes.put_replicas(tx, [], [(n, m)]), node_ids, models),
    st.builds(
        lambda n, wanted: lambda tx: nodes.set_desired(tx, n, {m: desired(m) for m in wanted}),
        node_ids,
        st.sets(models),
    ),
    st.builds(lambda k: lambda tx: _toggle_key(tx, k), keys),
)


def _enrol(tx, node_id):
    if not nodes.node_record_exists(tx, node_id):
        nodes.enrol(tx, node_id, "GRU", 1, START_UNIX_MS + DAY_MS)


def _if_enrolled(tx, node_id, act):
    if nodes.node_record_exists(tx, node_id):
        act(tx, node_id)


def _toggle_key(tx, key_id):
    """Create or revoke a key; its digest differs each time, as those of real keys do."""
    if tx.get(ResourceType.CREDENTIALS, f"key/{key_id}") is None:
        seq = tx.execute("SELECT count(*) FROM changes").fetchone()[0]
        customers.put_key(tx, replace(api_key(key_id), digest=bytes([seq % 256]) * 32), 1)
    else:
        customers.revoke_key(tx, key_id)


def fresh_store():
    store = MemoryStore()
    store.write(lambda tx: registry.put_pop(tx, GRU))
    store.write(lambda tx: customers.create_account(tx, Account("acme", "salt")))
    store.write(lambda tx: registry.put_model(tx, MODEL, FILES))
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
        store.write(step)
    restarted, cached = store.reloaded()
    for name in TABLES:
        table = store.projection.table(*name)
        rows, version = replayed(store, *name)
        assert dict(table.rows) == rows
        assert table.at.version == version
        assert table.digest == digest_of(rows)
        assert table.size_bytes == sum(len(key) + len(row) for key, row in rows.items())
        assert restarted.table(*name) == table
    assert restarted.view == store.projection.view
    assert cached == store.cached


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
        store.write(step)
        for name in TABLES:
            table = store.projection.table(*name)
            seen[name][table.at.version] = table
        if number == compact_at:
            now = store.clock.unix_ms
            store.write(lambda tx, now=now: changes.compact_step(tx, now))
    projection = store.reloaded()[0] if restart else store.projection
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
        store.write(step)
        for name in TABLES:
            versions[name].add(store.projection.table(*name).at.version)
    for name, known in versions.items():
        assert all(store.projection.delta_since(*name, version) for version in known)


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(steps=st.lists(STEPS, min_size=1, max_size=12))
def test_repeating_a_write_changes_nothing(steps):
    store = fresh_store()
    register_all(store)
    before = {name: store.projection.table(*name) for name in TABLES}
    register_all(store)
    assert {name: store.projection.table(*name) for name in TABLES} == before
    for step in steps:
        store.write(step)
    # Sequence numbers never decrease.
    (count, last) = store.connection.execute("SELECT count(*), max(seq) FROM changes").fetchone()
    assert count == last


def register_all(store):
    for node_id in NODES:
        store.write(lambda tx, n=node_id: _enrol(tx, n))
        store.write(lambda tx, n=node_id: nodes.register(tx, registration(n)))
        store.write(lambda tx, n=node_id: nodes.put_replicas(tx, [replica(n)], []))
        store.write(
            lambda tx, n=node_id: nodes.set_desired(tx, n, {MODEL.name: desired(MODEL.name)})
        )
