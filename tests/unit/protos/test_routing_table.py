"""Versions, digests, guards: which pushes an agent accepts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protos.domain import routing_table
from protos.domain.resources import ResourceType
from protos.domain.routing_table import (
    GUARDED_ABOVE_ROWS,
    ROWS_PER_STEP,
    Delta,
    RefusalReason,
    Snapshot,
    TableRefused,
    TableVersion,
    apply,
    apply_steps,
    diff,
    digest_from_bytes,
    digest_of,
    digest_to_bytes,
    empty_table,
    row_digest,
    table_of,
)

TOPOLOGY, CREDENTIALS = ResourceType.TOPOLOGY, ResourceType.CREDENTIALS


def rows(count, start=0):
    return {f"pop/P{index}": b"row %d" % index for index in range(start, start + count)}


def table(content, version=1, epoch=1, type_=TOPOLOGY):
    return table_of(type_, TableVersion(epoch, version), content)


def snapshot(content, version=1, epoch=1, *, type_=TOPOLOGY, forced=False):
    at = TableVersion(epoch, version)
    return Snapshot(type_, at, content, digest_of(content), forced)


def refusal(held, push):
    before = dict(held.rows)
    with pytest.raises(TableRefused) as raised:
        apply(held, push)
    assert held.rows == before, "the last good table is kept"
    return raised.value.reason


def test_first_snapshot():
    held = apply(empty_table(TOPOLOGY), snapshot(rows(3), version=7))
    assert held == table(rows(3), version=7)
    assert held.size_bytes == sum(len(key) + len(row) for key, row in rows(3).items())


def test_delta_adds_changes_and_removes():
    old = table({"a": b"1", "b": b"2", "c": b"3"})
    new = table({"a": b"1", "b": b"two", "d": b"4"}, version=5)
    push = diff(old, new)
    assert (push.upserts, push.removes) == ({"b": b"two", "d": b"4"}, ("c",))
    assert apply(old, push) == new


def test_gap_asks_for_a_snapshot():
    first, second, third = table(rows(1), 1), table(rows(2), 2), table(rows(3), 3)
    reason = refusal(first, diff(second, third))
    assert reason is RefusalReason.GAP
    assert reason.wants_snapshot
    raised_epoch = replace(diff(first, second), epoch=2)
    assert refusal(first, raised_epoch) is RefusalReason.GAP


def test_wrong_digest_asks_for_a_snapshot():
    held = table(rows(2))
    wrong = replace(diff(held, table(rows(3), 2)), result_digest=12345)
    reason = refusal(held, wrong)
    assert reason is RefusalReason.DIGEST
    assert reason.wants_snapshot
    bad = replace(snapshot(rows(3), 2), digest=1)
    assert refusal(held, bad) is RefusalReason.DIGEST


@pytest.mark.parametrize(("epoch", "version"), [(1, 4), (0, 99)])
def test_stale_pushes_are_refused(epoch, version):
    held = table(rows(2), version=5)
    reason = refusal(held, snapshot(rows(3), version, epoch))
    assert reason is RefusalReason.STALE
    assert not reason.wants_snapshot
    late = Delta(TOPOLOGY, epoch, version - 1, version, {}, (), held.digest)
    assert refusal(held, late) is RefusalReason.STALE


def test_a_restored_backup_wins_by_its_epoch():
    held = table(rows(2), version=500)
    assert apply(held, snapshot(rows(3), version=2, epoch=2)) == table(rows(3), 2, 2)


def test_reapplying_changes_nothing():
    old, new = table(rows(2), 1), table(rows(3, start=1), 2)
    push = diff(old, new)
    held = apply(old, push)
    assert apply(held, push) == held
    whole = snapshot(new.rows, 2)
    assert apply(held, whole) == held


def test_a_delta_that_removes_a_missing_row_is_checked_by_its_digest():
    held = table(rows(2))
    push = Delta(TOPOLOGY, 1, 1, 2, {}, ("nobody",), held.digest)
    assert apply(held, push).rows == held.rows


def test_another_types_push_is_malformed():
    assert refusal(table(rows(1)), snapshot(rows(1), 2, type_=ResourceType.PRICES)) is (
        RefusalReason.MALFORMED
    )


def test_emptied_and_halved_tables_are_refused_above_twenty_rows():
    held = table(rows(GUARDED_ABOVE_ROWS + 2))
    assert refusal(held, snapshot({}, 2)) is RefusalReason.SHRUNK
    assert refusal(held, snapshot(rows(10), 2)) is RefusalReason.SHRUNK
    assert refusal(held, diff(held, table(rows(10), 2))) is RefusalReason.SHRUNK
    assert not RefusalReason.SHRUNK.wants_snapshot
    assert len(apply(held, snapshot(rows(11), 2)).rows) == 11


def test_small_tables_may_empty():
    held = table(rows(GUARDED_ABOVE_ROWS))
    assert apply(held, snapshot({}, 2)).rows == {}


def test_an_operators_force_passes_the_shrink_guard_only():
    held = table(rows(40))
    assert apply(held, snapshot({}, 2, forced=True)).rows == {}
    forced = replace(diff(held, table({}, 2)), forced=True)
    assert apply(held, forced).rows == {}
    wrong = replace(snapshot({}, 2, forced=True), digest=1)
    assert refusal(held, wrong) is RefusalReason.DIGEST
    assert refusal(table(rows(40), version=9), snapshot({}, 2, forced=True)) is RefusalReason.STALE


def test_credentials_may_always_shrink():
    held = table(rows(40), type_=CREDENTIALS)
    assert apply(held, snapshot({}, 2, type_=CREDENTIALS)).rows == {}


def test_oversized_rows_tables_and_counts_are_refused(monkeypatch):
    monkeypatch.setattr(routing_table, "MAX_ROW_BYTES", 100)
    monkeypatch.setattr(routing_table, "MAX_TABLE_BYTES", 1_000)
    monkeypatch.setattr(routing_table, "MAX_ROWS", 30)
    held = table({"a": b"1"})
    too_large = RefusalReason.TOO_LARGE
    assert refusal(held, snapshot({"a": b"x" * 101}, 2)) is too_large
    assert refusal(held, snapshot({f"k{i}": b"x" * 100 for i in range(10)}, 2)) is too_large
    assert refusal(held, snapshot({f"k{i}": b"" for i in range(31)}, 2)) is too_large
    many = diff(held, table({"a": b"1", **{f"k{i}": b"" for i in range(30)}}, 2))
    assert refusal(held, many) is too_large
    assert apply(held, snapshot({"a": b"x" * 100}, 2))


def test_large_pushes_pause_and_leave_the_old_table_readable():
    held = table(rows(10))
    steps = apply_steps(held, snapshot(rows(3 * ROWS_PER_STEP), 2))
    pauses = 0
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result = stop.value
            break
        pauses += 1
        assert held.rows == rows(10)
    assert pauses == 3
    assert result.rows == rows(3 * ROWS_PER_STEP)


def test_a_row_digest_covers_key_and_bytes():
    assert row_digest("a", b"bc") != row_digest("ab", b"c")
    assert digest_of({}) == 0


def test_digests_travel_as_32_bytes():
    digest = digest_of(rows(5))
    assert len(digest_to_bytes(digest)) == 32
    assert digest_from_bytes(digest_to_bytes(digest)) == digest
    assert digest_from_bytes(b"") == 0
    assert 0 <= digest_from_bytes(b"\xff" * 40) < 2**256
