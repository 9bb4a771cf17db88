"""Which part of a batch is new, and batches that no spool makes."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.usage_batch import (
    MAX_BATCH_COUNTERS,
    MAX_BATCH_RECORDS,
    SpoolBatch,
    Verdict,
    check_batch,
    missing_seqs,
    ranges_of,
    verdict_on,
)
from protos.domain.errors import InvalidRequest
from protos.domain.usage_counters import CounterSums
from protos.domain.usage_record import UsageKey, UsageSums

KEY = UsageKey(0, "acme", "small", "m", "standard", "", "", 0, "", "GRU")


def batch(first: int, last: int, **changes: object) -> SpoolBatch:
    if "records" not in changes:
        changes["records"] = [(seq, b"") for seq in range(first, last + 1)]
    return replace(SpoolBatch("gru-1", "a" * 32, first, last, ()), **changes)


@given(st.integers(0, 40), st.integers(1, 40), st.integers(0, 20))
def test_a_batch_is_taken_only_where_it_continues_what_is_counted(watermark, first, more):
    verdict = verdict_on(batch(first, first + more), watermark)
    if first + more <= watermark:
        assert verdict is Verdict.KNOWN
    elif first > watermark + 1:
        assert verdict is Verdict.GAP
    else:
        assert verdict is Verdict.TAKE


def test_a_gap_whose_numbers_are_named_as_damaged_is_taken():
    assert verdict_on(batch(5, 6, damaged=[3, 4]), 2) is Verdict.TAKE
    assert verdict_on(batch(5, 6, damaged=[4]), 2) is Verdict.GAP


def test_sums_that_were_counted_in_part_are_asked_for_again():
    counters = [CounterSums(KEY, UsageSums())]
    assert verdict_on(batch(1, 6, counters=counters), 3) is Verdict.GAP
    assert verdict_on(batch(4, 6, counters=counters), 3) is Verdict.TAKE


def test_numbers_that_a_batch_leaves_out_are_named():
    holes = batch(1, 5, records=[(1, b""), (4, b"")], damaged=[2])
    assert missing_seqs(holes, 0) == [3, 5]
    assert missing_seqs(holes, 3) == [5]
    assert missing_seqs(batch(1, 5), 0) == []
    assert missing_seqs(replace(holes, counters=[CounterSums(KEY, UsageSums())]), 0) == []


@pytest.mark.parametrize(
    "bad",
    [
        batch(1, 1, spool="../../etc"),
        batch(1, 1, first_seq=0),
        batch(5, 3, records=[(4, b"")]),
        batch(1, MAX_BATCH_RECORDS + 1, records=[(1, b"")]),
        batch(1, 2**63, records=[(1, b"")]),
        batch(1, 3, records=[(2, b""), (2, b"")]),
        batch(1, 3, records=[(3, b""), (1, b"")]),
        batch(1, 3, records=[(4, b"")]),
        batch(1, 1, damaged=[1] * (MAX_BATCH_RECORDS + 1)),
        batch(1, 1, unreadable=[(b"", "")] * (MAX_BATCH_COUNTERS + 1)),
    ],
    ids=lambda one: f"{one.first_seq}-{one.last_seq}",
)
def test_a_batch_that_no_spool_makes_is_refused(bad: SpoolBatch):
    with pytest.raises(InvalidRequest):
        check_batch(bad)


def test_an_empty_batch_asks_for_the_watermark():
    empty = batch(7, 6)
    check_batch(empty)
    assert verdict_on(empty, 6) is Verdict.KNOWN


@given(st.sets(st.integers(0, 60)))
def test_runs_of_numbers_are_the_numbers(seqs):
    runs = ranges_of(seqs)
    assert {seq for first, last in runs for seq in range(first, last + 1)} == seqs
    assert all(last + 1 < first for (_, last), (first, _) in itertools.pairwise(runs))
