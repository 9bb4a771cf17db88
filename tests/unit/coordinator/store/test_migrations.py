"""Migrations: once each, in order, never backwards."""

from __future__ import annotations

import sqlite3

import pytest

from coordinator.core.node_orders import Move, NodeOrder, OrderKind, Phase
from coordinator.store import accounts, audit, deployments, models, nodes, pops, tokens
from coordinator.store.fact_tables import FactTables
from coordinator.store.facts import FactType, KeyCreated, Placement
from coordinator.store.history import Change
from coordinator.store.records import (
    AuditQuery,
    CertificateRecord,
    NodeRecord,
    Purpose,
    TokenRecord,
)
from coordinator.store.sqlite import migrations
from coordinator.store.sqlite.migrations import REGISTRY, applied_migrations, migrate
from coordinator.store.sqlite.transactions import Seat, load
from protos.domain.customers import Account
from protos.domain.errors import ConfigInvalid
from protos.domain.resources import EngineProfile, ModelFile, ResourceType
from protos.wire import decode_row, encode_row
from tests.support.stores import FILES, GRU, MODEL, START_UNIX_MS, MemoryStore, deployment


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
        database.table("tokens").add_column("rack", str)

    monkeypatch.setitem(migrations.REGISTRY, "9999_rack", add_column)
    assert migrate(connection, 2) == ("9999_rack",)
    connection.execute("SELECT rack FROM tokens")


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


RELATIONS = """
INSERT INTO changes (type, scope, key, payload, at_unix_ms) VALUES
 ('topology', '', 'pop/GRU', NULL, 5), ('deployments', '', 'deployment/chat', x'00', 6);
DELETE FROM changes WHERE seq = 1;
INSERT INTO rows VALUES ('deployments', '', 'deployment/chat', x'00', 2);
INSERT INTO tables VALUES ('topology', '', 1, 1), ('deployments', '', 2, 0);
INSERT INTO nodes VALUES ('gru-1', 'GRU', 7, 'vllm', '0.1.0', 40.0, 0.5, 4, 400.0, 1, 0, 8192),
 ('new', 'GRU', 8, '', '', NULL, NULL, NULL, NULL, 0, 0, 0);
INSERT INTO certificates VALUES ('ff', 'gru-1', 20), ('a', 'gru-1', 10), ('b', 'removed', 30);
INSERT INTO placements VALUES ('chat', 'new'), ('chat', 'gru-1'), ('long-gone', 'gru-1');
INSERT INTO node_orders VALUES
 ('gru-1', 'retire', 'operator/ana', 'old', 9, 'moving', '[["chat", "acme/m@1", "new", ""]]', 1);
INSERT INTO model_files VALUES ('acme/m@1', 'b.bin', x'0b', 2), ('acme/m@1', 'a.bin', x'0a', 1);
INSERT INTO keys VALUES ('k2', 2), ('k1', 1);
"""


def test_relations_become_facts_of_the_change_log(connection, monkeypatch):
    names = list(REGISTRY)
    before = names[: names.index("0010_change_log")]
    monkeypatch.setattr(migrations, "REGISTRY", {name: REGISTRY[name] for name in before})
    migrate(connection, 1)
    connection.executescript(RELATIONS)
    monkeypatch.undo()
    assert migrate(connection, 2)[0] == "0010_change_log"
    facts = FactTables()
    facts.follow(
        Change(seq, FactType(type_), "", key, payload)
        for seq, type_, key, payload in connection.execute(
            "SELECT seq, type, key, payload FROM rows WHERE type <> 'deployments'"
        )
    )
    assert facts == FactTables(
        nodes={
            "gru-1": NodeRecord(
                "gru-1",
                "GRU",
                7,
                "vllm",
                "0.1.0",
                EngineProfile(40.0, 0.5, 4, 400.0, embeds=True, context_tokens=8_192),
                (CertificateRecord(10, 10), CertificateRecord(255, 20)),
            ),
            "new": NodeRecord("new", "GRU", 8),
        },
        certificates={
            "gru-1": (CertificateRecord(10, 10), CertificateRecord(255, 20)),
            "removed": (CertificateRecord(11, 30),),
        },
        placements={"chat": ("gru-1", "new")},
        orders={
            "gru-1": NodeOrder(
                OrderKind.RETIRE,
                "operator/ana",
                "old",
                9,
                Phase.MOVING,
                (Move("chat", "acme/m@1", "new"),),
                force=True,
            )
        },
        manifests={"acme/m@1": (ModelFile("a.bin", b"\x0a", 1), ModelFile("b.bin", b"\x0b", 2))},
        keys_created={"k1": KeyCreated("k1", 1), "k2": KeyCreated("k2", 2)},
    )
    seqs = [seq for (seq,) in connection.execute("SELECT seq FROM changes ORDER BY seq")]
    assert seqs == list(range(2, 2 + len(seqs)))
    assert connection.execute("SELECT * FROM log").fetchall() == [(1, seqs[-1], 1, 0)]
    # Read again, the whole is one memory.
    connection.execute("DELETE FROM rows WHERE type = 'deployments'")
    assert load(connection, Seat()).facts == facts


def test_a_database_made_new_starts_its_log_at_nothing(connection):
    migrate(connection, 1)
    assert connection.execute("SELECT * FROM log").fetchall() == [(1, 0, 0, 0)]


def test_strangers_refusals_are_moved_apart_and_keep_their_numbers(connection, monkeypatch):
    names = list(REGISTRY)
    before = names[: names.index("0011_strangers")]
    monkeypatch.setattr(migrations, "REGISTRY", {name: REGISTRY[name] for name in before})
    migrate(connection, 1)
    connection.executescript(
        "INSERT INTO audit (at_unix_ms, actor, action, subject, detail, anonymous) VALUES"
        " (1, 'operator/ana', 'key.create', 'key/1', '', 0),"
        " (2, 'anonymous@10.0.0.1', 'enrolment.refused', 'token/t', '', 1),"
        " (3, 'anonymous@10.0.0.1', 'enrolment.accepted', 'node/gru-1', '', 1)"
    )
    monkeypatch.undo()
    migrate(connection, 2)
    known = audit.page(AuditQuery(10))(connection).entries
    assert [(one.seq, one.note.action) for one in known] == [
        (3, "enrolment.accepted"),
        (1, "key.create"),
    ]
    strangers = audit.page(AuditQuery(10, strangers=True))(connection).entries
    assert [(one.seq, one.note.action) for one in strangers] == [(2, "enrolment.refused")]


def test_a_token_of_the_version_before_enrols_its_node(connection, monkeypatch):
    names = list(REGISTRY)
    before = names[: names.index("0014_operators")]
    monkeypatch.setattr(migrations, "REGISTRY", {name: REGISTRY[name] for name in before})
    migrate(connection, 1)
    connection.execute(
        "INSERT INTO tokens (id, secret_sha256, pop_id, node_id, expires_unix_ms)"
        " VALUES ('t', x'73', 'GRU', 'gru-1', 5)"
    )
    monkeypatch.undo()
    migrate(connection, 2)
    assert tokens.by_id("t")(connection) == TokenRecord("t", b"s", Purpose.NODE, "gru-1", 5, "GRU")


def test_names_are_numbered_without_gaps():
    assert [int(name[:4]) for name in REGISTRY] == list(range(1, len(REGISTRY) + 1))


def test_pins_of_an_older_database_get_into_the_rows_as_a_change():
    store = MemoryStore()
    store.write(pops.put(GRU))
    store.write(nodes.enrol("gru-1", "GRU", 1, START_UNIX_MS + 1))
    store.write(accounts.create(Account("acme")))
    store.write(models.register(MODEL, FILES))
    store.write(deployments.put(deployment(), [], create_only=True))
    store.write(lambda tx: tx.put_fact(Placement("chat", ("gru-1",))))
    store.connection.execute("DELETE FROM migrations WHERE name = '0012_pins_in_rows'")
    before = store.projection.table(ResourceType.DEPLOYMENTS, "").at
    assert migrate(store.connection, 2) == ("0012_pins_in_rows",)
    projection = store.reloaded().projection
    assert projection.view.deployments["chat"].pins == {"gru-1"}
    assert projection.table(ResourceType.DEPLOYMENTS, "").at.version > before.version
    store.close()


def test_salts_leave_the_rows_of_accounts_and_the_log_and_agents_are_sent_the_new_rows(
    connection, monkeypatch
):
    names = list(REGISTRY)
    before = names[: names.index("0013_no_salts")]
    monkeypatch.setattr(migrations, "REGISTRY", {name: REGISTRY[name] for name in before})
    migrate(connection, 1)
    salted = b"\x12\x0e\n\x04acme\x12\x06secret"
    assert decode_row(ResourceType.CREDENTIALS, salted) == Account("acme")
    row = ("credentials", "", "account/acme")
    connection.execute("INSERT INTO changes VALUES (7, ?, ?, ?, ?, 5)", (*row, salted))
    connection.execute("INSERT INTO rows VALUES (?, ?, ?, ?, 7)", (*row, salted))
    connection.execute("INSERT INTO tables VALUES ('credentials', '', 7, 0)")
    connection.execute("UPDATE log SET seq = 7")
    monkeypatch.undo()
    migrate(connection, 2)
    plain = encode_row(Account("acme"))
    assert connection.execute("SELECT payload, seq FROM rows").fetchall() == [(plain, 8)]
    changes = connection.execute("SELECT seq, payload FROM changes ORDER BY seq").fetchall()
    assert changes == [(7, plain), (8, plain)]
    assert connection.execute("SELECT seq FROM log").fetchall() == [(8,)]
    assert connection.execute("SELECT version FROM tables").fetchall() == [(8,)]
