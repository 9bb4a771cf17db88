"""The audit: append-only and bounded; entries of anonymous callers cannot displace operators'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from coordinator.store.records import AuditNote, AuditRecord

if TYPE_CHECKING:
    from coordinator.store.backend import Connection
    from coordinator.store.transaction import Transaction, Write

#: Newest entries kept by a compaction: of known actors, and of callers without a certificate.
KEPT_KNOWN = 1_000_000
KEPT_ANONYMOUS = 50_000
#: Longest text kept of one field.
MAX_FIELD_CHARS = 1_000
#: Most entries that one query returns.
MAX_ENTRIES = 10_000

_ANONYMOUS = "anonymous@"


def append(note: AuditNote) -> Write[None]:
    """Write one entry; over-long fields are cut."""

    def write(tx: Transaction) -> None:
        tx.change(
            "INSERT INTO audit (at_unix_ms, actor, action, subject, detail, anonymous)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (
                tx.now_unix_ms,
                note.actor[:MAX_FIELD_CHARS],
                note.action[:MAX_FIELD_CHARS],
                note.subject[:MAX_FIELD_CHARS],
                note.detail[:MAX_FIELD_CHARS],
                int(note.actor.startswith(_ANONYMOUS)),
            ),
        )

    return write


def entries(connection: Connection, limit: int) -> Sequence[AuditRecord]:
    """Return the newest ``limit`` entries, newest first."""
    found = connection.execute(
        "SELECT seq, at_unix_ms, actor, action, subject, detail FROM audit"
        " ORDER BY seq DESC LIMIT ?",
        (max(0, min(limit, MAX_ENTRIES)),),
    )
    return [
        AuditRecord(seq, at_unix_ms, AuditNote(actor, action, subject, detail))
        for seq, at_unix_ms, actor, action, subject, detail in found
    ]


def trim(tx: Transaction) -> int:
    """Drop the oldest entries over the limits; return how many."""
    dropped = 0
    for anonymous, kept in ((0, KEPT_KNOWN), (1, KEPT_ANONYMOUS)):
        dropped += tx.change(
            "DELETE FROM audit WHERE anonymous = ? AND seq <= ("
            "SELECT seq FROM audit WHERE anonymous = ? ORDER BY seq DESC LIMIT 1 OFFSET ?)",
            (anonymous, anonymous, kept),
        )
    return dropped
