"""What one transaction makes of batches: which records it takes, and their sums."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from coordinator.core.usage_batch import (
    MAX_RECORD_BYTES,
    Verdict,
    missing_seqs,
    ranges_of,
    verdict_on,
)
from coordinator.core.usage_clock import believed, believed_minute
from protos.domain.errors import InvalidRequest
from protos.wire.usage import decode_record

if TYPE_CHECKING:
    import sqlite3

    from coordinator.core.usage_batch import SpoolBatch
    from coordinator.core.usage_checks import KnownFleet
    from protos.domain.usage_counters import CounterSums
    from protos.domain.usage_record import UsageRecord

#: Flag of a raw record: its own time is impossible; it is counted at ``began_unix_ms``.
CLOCK_SUSPECT = 1
#: What one node may have in quarantine before its batches are refused.
MAX_HELD_PER_NODE = 200_000
#: New spools of one node in an hour: an agent makes one at each start.
MAX_SPOOLS_PER_HOUR = 240
#: ``gap_allowed`` of a spool after a backup was restored, and once its agent was asked to go back.
_RESTORED, _ASKED_BACK = 2, 1
_HOUR_MS = 3_600_000
_MINUTE_MS = 60_000


class Held(NamedTuple):
    """A row of the quarantine."""

    node: str
    spool: str
    seq: int
    last_seq: int
    kind: str
    reason: str
    payload: bytes
    arrived_unix_ms: int


class RawRow(NamedTuple):
    """A row of ``raw``."""

    arrived_minute: int
    spool_id: int
    seq: int
    account: str
    began_unix_ms: int
    flags: int
    payload: bytes


@dataclass(slots=True)
class Outcome:
    """What became of one batch."""

    watermark: int
    refused: bool = False
    reason: str = ""
    taken: int = 0
    duplicates: int = 0
    quarantined: int = 0
    conflicts: int = 0
    suspect: int = 0


@dataclass(slots=True)
class Group:
    """What a transaction adds, over all of its batches."""

    raw: list[RawRow] = field(default_factory=list)
    records: list[UsageRecord] = field(default_factory=list)
    counters: list[CounterSums] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)


@dataclass(slots=True)
class Spool:
    """A row of ``spools``."""

    id: int
    watermark: int
    newest_unix_ms: int
    gap_allowed: int


def take_batch(
    connection: sqlite3.Connection, batch: SpoolBatch, known: KnownFleet | None, group: Group
) -> Outcome:
    """Add what is new of ``batch`` to ``group`` and advance the watermark of its spool."""
    spool = _spool_of(connection, batch)
    if spool is None:
        return Outcome(0, refused=True, reason="too many new spools of this node within an hour")
    verdict = verdict_on(batch, spool.watermark)
    outcome = Outcome(spool.watermark)
    part = Group()
    behind = batch.first_seq > spool.watermark + 1
    if verdict is Verdict.GAP and behind and spool.gap_allowed == _ASKED_BACK:
        first, last = spool.watermark + 1, batch.first_seq - 1
        part.held.append(_held(batch, first, "lost", "counted after the backup", b"", last))
        verdict = Verdict.TAKE
    if verdict is Verdict.GAP:
        if behind and spool.gap_allowed == _RESTORED:
            # The agent looks first for what it still has.
            connection.execute(
                "UPDATE spools SET gap_allowed = ? WHERE id = ?", (_ASKED_BACK, spool.id)
            )
        outcome.refused = True
        outcome.reason = f"{spool.watermark + 1} is expected, not {batch.first_seq}"
        return outcome
    _find_conflicts(connection, batch, spool, part, outcome)
    if verdict is Verdict.TAKE:
        _take_records(batch, spool, known, part, outcome)
        _take_rest(batch, spool, known, part)
    outcome.quarantined = len(part.held)
    if part.held and _held_count(connection, batch.node) + len(part.held) > MAX_HELD_PER_NODE:
        reason = f"{MAX_HELD_PER_NODE} records of this node are in quarantine: settle them first"
        return Outcome(spool.watermark, refused=True, reason=reason)
    _advance(connection, batch, spool, verdict, outcome)
    group.raw += part.raw
    group.records += part.records
    group.counters += part.counters
    group.held += part.held
    return outcome


def _spool_of(connection: sqlite3.Connection, batch: SpoolBatch) -> Spool | None:
    """Return the spool's row, made if it is new; None if the node makes too many."""
    found = connection.execute(
        "SELECT id, watermark, newest_unix_ms, gap_allowed FROM spools"
        " WHERE node = ? AND spool = ?",
        (batch.node, batch.spool),
    ).fetchone()
    if found:
        return Spool(*found)
    since = batch.arrived_unix_ms - _HOUR_MS
    recent, newest = connection.execute(
        "SELECT count(*) FILTER (WHERE began_unix_ms > ?), max(newest_unix_ms)"
        " FROM spools WHERE node = ?",
        (since, batch.node),
    ).fetchone()
    if recent >= MAX_SPOOLS_PER_HOUR:
        return None
    (restored,) = connection.execute("SELECT count(*) FROM restored").fetchone()
    gap_allowed = _RESTORED if restored else 0
    newest_unix_ms = max(newest or 0, batch.enrolled_unix_ms)
    if batch.last_seq < batch.first_seq:
        return Spool(0, 0, newest_unix_ms, 0)  # nothing is known of it yet, and it asks for that
    (spool_id,) = connection.execute(
        "INSERT INTO spools (node, spool, watermark, newest_unix_ms, began_unix_ms, conflicts,"
        " gap_allowed) VALUES (?, ?, 0, ?, ?, 0, ?) RETURNING id",
        (batch.node, batch.spool, newest_unix_ms, batch.arrived_unix_ms, gap_allowed),
    ).fetchone()
    return Spool(spool_id, 0, newest_unix_ms, gap_allowed)


def _take_records(
    batch: SpoolBatch, spool: Spool, known: KnownFleet | None, part: Group, outcome: Outcome
) -> None:
    """Decode and check the new records. Hot."""
    minute = batch.arrived_unix_ms // _MINUTE_MS
    for seq, payload in batch.records:
        if seq <= spool.watermark:
            continue
        if len(payload) > MAX_RECORD_BYTES:
            cut = payload[:MAX_RECORD_BYTES]
            part.held.append(_held(batch, seq, "record", "the record is too large", cut))
            continue
        try:
            record = decode_record(payload)
        except InvalidRequest as error:
            part.held.append(_held(batch, seq, "record", error.message, payload))
            continue
        if known is not None and (problem := known.problem(record, batch.node)):
            part.held.append(_held(batch, seq, "record", problem, payload))
            continue
        began, suspect, newest = believed(record, batch.arrived_unix_ms, spool.newest_unix_ms)
        problem = known.card_problem(record.card_version, began) if known is not None else ""
        if problem and record.nano_usd:
            part.held.append(_held(batch, seq, "record", problem, payload))
            continue
        spool.newest_unix_ms = newest
        record.began_unix_ms = began
        outcome.suspect += suspect
        part.records.append(record)
        part.raw.append(RawRow(minute, spool.id, seq, record.account, began, int(suspect), payload))
    outcome.taken = len(part.records)


def _take_rest(batch: SpoolBatch, spool: Spool, known: KnownFleet | None, part: Group) -> None:
    for counters in batch.counters:
        minute, spool.newest_unix_ms = believed_minute(
            counters.key.minute_unix_ms, batch.arrived_unix_ms, spool.newest_unix_ms
        )
        if minute != counters.key.minute_unix_ms:
            counters.key = replace(counters.key, minute_unix_ms=minute)
        if known is None:
            problem = ""
        else:
            problem = known.counters_problem(counters, batch.node)
            if not problem and counters.sums.nano_usd:
                problem = known.card_problem(counters.key.card_version, minute)
        if problem:
            seq = batch.first_seq + len(part.counters) + len(part.held)
            part.held.append(_held(batch, seq, "counters", problem, counters.payload))
        else:
            part.counters.append(counters)
    for place, (payload, reason) in enumerate(batch.unreadable):
        part.held.append(_held(batch, batch.first_seq + place, "counters", reason, payload))
    damaged = [seq for seq in batch.damaged if spool.watermark < seq <= batch.last_seq]
    for first, last in ranges_of(damaged):
        part.held.append(_held(batch, first, "damaged", "the agent has lost it", b"", last))
    for first, last in ranges_of(missing_seqs(batch, spool.watermark)):
        part.held.append(_held(batch, first, "missing", "the batch does not hold it", b"", last))


def _find_conflicts(
    connection: sqlite3.Connection,
    batch: SpoolBatch,
    spool: Spool,
    part: Group,
    outcome: Outcome,
) -> None:
    """Compare records that were counted before with what was counted, where it is still there."""
    for seq, payload in batch.records:
        if seq > spool.watermark:
            return
        outcome.duplicates += 1
        found = connection.execute(
            "SELECT payload FROM raw WHERE spool_id = ? AND seq = ?", (spool.id, seq)
        ).fetchone()
        if found is not None and found[0] != payload and _differ(found[0], payload):
            outcome.conflicts += 1
            digest = hashlib.sha256(found[0]).hexdigest()[:16]
            reason = f"another record than the one that was counted, {digest}"
            part.held.append(_held(batch, seq, "conflict", reason, payload[:MAX_RECORD_BYTES]))


def _differ(counted: bytes, payload: bytes) -> bool:
    """Whether two records differ in more than how the answer ended.

    An agent that was killed may know less of that when it sends a record again.
    """
    try:
        before, after = decode_record(counted), decode_record(payload)
    except InvalidRequest:
        return True
    before.cause = after.cause
    return before != after


def _held_count(connection: sqlite3.Connection, node: str) -> int:
    (count,) = connection.execute(
        "SELECT count(*) FROM quarantine WHERE state = 'held' AND node = ?", (node,)
    ).fetchone()
    return int(count)


def _advance(
    connection: sqlite3.Connection,
    batch: SpoolBatch,
    spool: Spool,
    verdict: Verdict,
    outcome: Outcome,
) -> None:
    if verdict is Verdict.TAKE:
        outcome.watermark = batch.last_seq
    elif not outcome.conflicts:
        return
    connection.execute(
        "UPDATE spools SET watermark = ?, newest_unix_ms = ?, conflicts = conflicts + ?,"
        " gap_allowed = 0 WHERE id = ?",
        (outcome.watermark, spool.newest_unix_ms, outcome.conflicts, spool.id),
    )


def _held(
    batch: SpoolBatch, seq: int, kind: str, reason: str, payload: bytes, last_seq: int = 0
) -> Held:
    return Held(
        batch.node,
        batch.spool,
        seq,
        last_seq or seq,
        kind,
        reason,
        payload,
        batch.arrived_unix_ms,
    )
