"""The audit: newest first, in pages, fields cut; strangers' refusals apart from the others."""

from __future__ import annotations

import pytest

from coordinator.store import audit
from coordinator.store.records import AuditNote, AuditQuery
from tests.support.stores import START_UNIX_MS


def page(store, limit=100, **query):
    return audit.page(AuditQuery(limit, **query))(store.connection)


def actions(store, limit=100, **query):
    return [record.note.action for record in page(store, limit, **query).entries]


def fill(store):
    for number, actor in enumerate(["operator/ana", "operator/bob", "operator/ana", "node/gru-1"]):
        store.clock.unix_ms = START_UNIX_MS + number
        store.write(audit.append(AuditNote(actor, f"do.{number}", "x")))


def test_newest_first_and_no_more_than_asked(store):
    fill(store)
    assert actions(store, 2) == ["do.3", "do.2"]
    assert page(store, 3).more
    assert not page(store, 4).more


def test_pages_lead_to_every_entry_once_while_new_ones_are_written(store):
    fill(store)
    seen, before_seq, more = [], 0, True
    while more:
        found = page(store, 1, before_seq=before_seq)
        seen += [record.note.action for record in found.entries]
        before_seq, more = found.entries[-1].seq, found.more
        store.write(audit.append(AuditNote("operator/eve", "do.later", "x")))
    assert seen == ["do.3", "do.2", "do.1", "do.0"]


def test_by_actor_by_start_of_action_and_by_time(store):
    fill(store)
    assert actions(store, actor="operator/ana") == ["do.2", "do.0"]
    assert actions(store, actor="operator") == []
    assert actions(store, action="do.") == ["do.3", "do.2", "do.1", "do.0"]
    assert actions(store, action="do.1") == ["do.1"]
    assert actions(store, action="%") == []
    assert actions(store, since_unix_ms=START_UNIX_MS + 2) == ["do.3", "do.2"]
    assert actions(store, actor="operator/ana", since_unix_ms=START_UNIX_MS + 1) == ["do.2"]


def test_fields_are_cut(store):
    store.write(audit.append(AuditNote("a", "b", "c", "d" * 5_000)))
    (record,) = page(store, 1).entries
    assert len(record.note.detail) == audit.MAX_FIELD_CHARS


def test_thousands_of_strangers_hide_and_displace_no_operators_act(store, monkeypatch):
    monkeypatch.setattr(audit, "KEPT_STRANGERS", 100)
    store.write(audit.append(AuditNote("operator/ana", "key.create", "key/1")))
    for number in range(1_108):
        store.write(audit.append(AuditNote("anonymous@10.0.0.9", f"refused.{number}", "token/x")))
    assert actions(store, 10) == ["key.create"]
    assert not page(store, 10).more
    strangers = actions(store, 1_000, strangers=True)
    assert len(strangers) == 100
    assert strangers[0] == "refused.1107"


def test_a_caller_who_proved_a_tokens_secret_is_no_stranger(store):
    note = AuditNote("anonymous@10.0.0.9", "enrolment.accepted", "node/gru-1", proved=True)
    store.write(audit.append(note))
    assert actions(store) == ["enrolment.accepted"]
    assert actions(store, strangers=True) == []


def test_the_oldest_entries_of_known_actors_make_room_for_theirs(store, monkeypatch):
    monkeypatch.setattr(audit, "KEPT_KNOWN", 2)
    fill(store)
    assert actions(store) == ["do.3", "do.2"]


def test_a_note_is_written_with_its_change_or_not_at_all(store):
    def fails(tx):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.write(fails, AuditNote("operator/ana", "pop.create", "pop/GRU"))
    assert actions(store) == []
