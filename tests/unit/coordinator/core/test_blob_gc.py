"""What is collected: unnamed, and untouched for longer than the grace time."""

from __future__ import annotations

from coordinator.core.blob_gc import MAX_REMOVALS, StoredBlob, plan_collection

NOW_UNIX_MS = 1_000_000_000
GRACE_MS = 60_000


def blob(name: int, age_ms: int, size_bytes: int = 10) -> StoredBlob:
    return StoredBlob(name.to_bytes(32, "big"), size_bytes, NOW_UNIX_MS - age_ms)


def plan(*blobs: StoredBlob, named: frozenset[bytes] = frozenset()):
    return plan_collection(blobs, named, now_unix_ms=NOW_UNIX_MS, grace_ms=GRACE_MS)


def test_an_unnamed_blob_goes_when_its_grace_time_is_over():
    young, old = blob(1, GRACE_MS), blob(2, GRACE_MS + 1)
    assert plan(young, old) == ((old,), 0, 1)


def test_a_named_blob_stays_however_old():
    one = blob(1, 10**9)
    assert plan(one, named=frozenset({one.sha256})) == ((), 1, 0)


def test_a_clock_set_back_collects_nothing():
    assert plan(blob(1, -(10**9))) == ((), 0, 1)


def test_a_pass_is_bounded_and_takes_the_oldest():
    blobs = [blob(index, GRACE_MS + 1 + index) for index in range(MAX_REMOVALS + 5)]
    made = plan(*blobs)
    assert len(made.remove) == MAX_REMOVALS
    assert made.waiting == 5
    assert set(blobs) - set(made.remove) == set(blobs[:5])
