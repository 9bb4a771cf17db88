"""The audit: newest first, fields cut, anonymous entries trimmed apart from the others."""

from __future__ import annotations

import pytest

from coordinator.store import audit
from coordinator.store.records import AuditNote
from tests.support.stores import MemoryStore


@pytest.fixture
def store():
    return MemoryStore()


def actions(store, limit=100):
    return [record.note.action for record in audit.entries(store.connection, limit)]


def test_newest_first_and_no_more_than_asked(store):
    for number in range(5):
        store.write(audit.append(AuditNote("operator/a", f"do.{number}", "x")))
    assert actions(store, 2) == ["do.4", "do.3"]
    assert actions(store, 0) == []


def test_fields_are_cut(store):
    store.write(audit.append(AuditNote("a", "b", "c", "d" * 5_000)))
    (record,) = audit.entries(store.connection, 1)
    assert len(record.note.detail) == audit.MAX_FIELD_CHARS


def test_many_anonymous_entries_displace_anonymous_ones_only(store, monkeypatch):
    monkeypatch.setattr(audit, "KEPT_ANONYMOUS", 3)
    store.write(audit.append(AuditNote("operator/ana", "key.create", "key/1")))
    for number in range(10):
        note = AuditNote(f"anonymous@10.0.0.{number}", f"refused.{number}", "token/x")
        store.write(audit.append(note))
    assert store.write(audit.trim) == 7
    assert actions(store) == ["refused.9", "refused.8", "refused.7", "key.create"]


def test_nothing_is_trimmed_below_the_limits(store):
    store.write(audit.append(AuditNote("operator/ana", "key.create", "key/1")))
    assert store.write(audit.trim) == 0


def test_a_note_is_written_with_its_change_or_not_at_all(store):
    def fails(tx):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.write(fails, AuditNote("operator/ana", "pop.create", "pop/GRU"))
    assert actions(store) == []
