"""Whatever arrives, an agent holds a routing table that the coordinator once had."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from protos.domain.fleet_view import FleetView, with_changes
from protos.domain.resources import ResourceType
from protos.domain.routing_table import (
    GUARDED_ABOVE_ROWS,
    RefusalReason,
    Snapshot,
    TableRefused,
    TableVersion,
    apply,
    diff,
    digest_from_bytes,
    digest_of,
    digest_to_bytes,
    row_digest,
    table_of,
)
from tests.support.rows import ONE_OF_EACH
from tests.support.strategies import row_maps, tables

TOPOLOGY = ResourceType.TOPOLOGY


def refuses(table, push):
    before = dict(table.rows)
    try:
        apply(table, push)
    except TableRefused as refused:
        assert dict(table.rows) == before
        return refused.reason
    return None


@given(tables(), tables(version=2))
def test_apply_of_diff_is_the_new_table(old, new):
    push = replace(diff(old, new), forced=True)
    assert apply(old, push) == new


@given(tables(), tables(version=2))
def test_reapplying_changes_nothing(old, new):
    push = replace(diff(old, new), forced=True)
    once = apply(old, push)
    assert apply(once, push) == once


@given(tables(), tables(version=2), tables(version=3))
def test_a_gap_is_always_seen(first, second, third):
    reason = refuses(first, diff(second, third))
    assert reason is RefusalReason.GAP
    assert reason.wants_snapshot


@given(tables(), tables(version=2), tables(version=3))
def test_deltas_in_order_equal_one_snapshot(first, second, third):
    by_deltas = first
    for before, after in ((first, second), (second, third)):
        by_deltas = apply(by_deltas, replace(diff(before, after), forced=True))
    whole = Snapshot(TOPOLOGY, third.at, third.rows, third.digest, forced=True)
    assert by_deltas == apply(first, whole) == third


@given(row_maps, st.randoms(use_true_random=False))
def test_a_digest_does_not_depend_on_order(rows, random):
    items = list(rows.items())
    random.shuffle(items)
    assert digest_of(dict(items)) == digest_of(rows)
    assert digest_from_bytes(digest_to_bytes(digest_of(rows))) == digest_of(rows)


@given(row_maps, row_maps)
def test_different_rows_have_different_digests(a, b):
    assert (digest_of(a) == digest_of(b)) is (a == b)


@given(st.text(), st.binary(), st.text(), st.binary())
def test_rows_cannot_be_confused_with_one_another(key_a, row_a, key_b, row_b):
    if "\0" not in key_a + key_b:
        same = (key_a, row_a) == (key_b, row_b)
        assert (row_digest(key_a, row_a) == row_digest(key_b, row_b)) is same


@given(tables(version=5, epoch=5), row_maps, st.integers(0, 9), st.integers(0, 9), st.booleans())
def test_lower_versions_are_refused_even_when_forced(held, rows, epoch, version, forced):
    push = Snapshot(TOPOLOGY, TableVersion(epoch, version), rows, digest_of(rows), forced=forced)
    older = (epoch, version) < (5, 5)
    assert (refuses(held, push) is RefusalReason.STALE) is older


@given(tables(), row_maps)
def test_the_shrink_guard_refuses_exactly_emptied_and_halved_tables(held, rows):
    push = Snapshot(TOPOLOGY, TableVersion(1, 2), rows, digest_of(rows))
    guarded = len(held.rows) > GUARDED_ABOVE_ROWS and len(rows) * 2 < len(held.rows)
    assert (refuses(held, push) is RefusalReason.SHRUNK) is guarded
    assert refuses(held, replace(push, forced=True)) is None


@given(tables(), row_maps)
def test_credentials_are_exempt_from_the_guard(held, rows):
    held = table_of(ResourceType.CREDENTIALS, held.at, held.rows)
    push = Snapshot(ResourceType.CREDENTIALS, TableVersion(1, 2), rows, digest_of(rows))
    assert refuses(held, push) is None


@given(tables(), tables(version=2), st.integers(0, 2**256 - 1))
def test_a_wrong_digest_is_always_seen(old, new, digest):
    push = replace(diff(old, new), result_digest=digest, forced=True)
    expected = None if digest == new.digest else RefusalReason.DIGEST
    assert refuses(old, push) is expected


@given(tables(), tables(version=2), st.data())
def test_a_flipped_bit_in_any_row_is_seen(old, new, data):
    push = replace(diff(old, new), forced=True)
    damageable = sorted(key for key, row in push.upserts.items() if row)
    if not damageable:
        return
    key = data.draw(st.sampled_from(damageable))
    row = bytearray(push.upserts[key])
    row[data.draw(st.integers(0, len(row) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    damaged = replace(push, upserts={**push.upserts, key: bytes(row)})
    assert refuses(old, damaged) is RefusalReason.DIGEST


@given(tables())
def test_size_is_kept_in_step(held):
    new = table_of(TOPOLOGY, TableVersion(1, 2), {"pop/P0": b"x", "pop/P99": b"yy"})
    push = replace(diff(held, new), forced=True)
    assert apply(held, push).size_bytes == new.size_bytes


@given(st.lists(st.sampled_from(ONE_OF_EACH)), st.lists(st.sampled_from(ONE_OF_EACH)))
def test_a_view_depends_only_on_the_rows_it_ends_with(removes, upserts):
    full = with_changes(FleetView(), (), ONE_OF_EACH)
    changed = with_changes(full, removes, upserts)
    left = [each for each in ONE_OF_EACH if each not in removes or each in upserts]
    assert changed == with_changes(FleetView(), (), left)
    assert full == with_changes(FleetView(), (), ONE_OF_EACH)
