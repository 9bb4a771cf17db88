"""The audit: append-only and bounded; strangers' refusals are kept apart from all other entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.store.records import AuditNote, AuditPage, AuditQuery, AuditRecord

if TYPE_CHECKING:
    from coordinator.store.connection import Connection, Read, Value
    from coordinator.store.transaction import Transaction, Write

#: Newest entries kept: of known actors, and of callers who have proved nothing.
KEPT_KNOWN = 1_000_000
KEPT_STRANGERS = 50_000
#: Longest text kept of one field.
MAX_FIELD_CHARS = 1_000
#: Most entries of one page.
MAX_PAGE_ENTRIES = 1_000


def append(note: AuditNote) -> Write[None]:
    """Write one entry; over-long fields are cut, and the oldest entry of its table makes room."""

    def write(tx: Transaction) -> None:
        table, kept = ("strangers", KEPT_STRANGERS) if note.by_stranger else ("audit", KEPT_KNOWN)
        tx.change(
            f"INSERT INTO {table} (at_unix_ms, actor, action, subject, detail)"
            " VALUES (?, ?, ?, ?, ?)",
            (
                tx.now_unix_ms,
                note.actor[:MAX_FIELD_CHARS],
                note.action[:MAX_FIELD_CHARS],
                note.subject[:MAX_FIELD_CHARS],
                note.detail[:MAX_FIELD_CHARS],
            ),
        )
        tx.change(f"DELETE FROM {table} WHERE seq <= (SELECT max(seq) FROM {table}) - ?", (kept,))

    return write


def page(query: AuditQuery) -> Read[AuditPage]:
    """Return the newest entries that match, newest first, and whether there are older ones."""

    def read(connection: Connection) -> AuditPage:
        limit = max(1, min(query.limit, MAX_PAGE_ENTRIES))
        conditions, values = _conditions(query)
        table = "strangers" if query.strangers else "audit"
        found = connection.execute(
            f"SELECT seq, at_unix_ms, actor, action, subject, detail FROM {table}"
            f" WHERE {' AND '.join(conditions)} ORDER BY seq DESC LIMIT ?",
            (*values, limit + 1),
        ).fetchall()
        entries = tuple(
            AuditRecord(seq, at_unix_ms, AuditNote(actor, action, subject, detail))
            for seq, at_unix_ms, actor, action, subject, detail in found[:limit]
        )
        return AuditPage(entries, more=len(found) > limit)

    return read


def _conditions(query: AuditQuery) -> tuple[list[str], list[Value]]:
    conditions = ["at_unix_ms >= ?"]
    values: list[Value] = [query.since_unix_ms]
    if query.before_seq:
        conditions.append("seq < ?")
        values.append(query.before_seq)
    if query.actor:
        conditions.append("actor = ?")
        values.append(query.actor)
    if query.action:
        conditions.append("substr(action, 1, ?) = ?")
        values += (len(query.action), query.action)
    return conditions, values
