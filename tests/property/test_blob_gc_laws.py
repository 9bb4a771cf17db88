"""The collection never takes what is named or was touched; in the end it takes all else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.blob_gc import StoredBlob, plan_collection

NAMES = [bytes([one]) * 32 for one in range(6)]
stored = st.lists(
    st.builds(StoredBlob, st.sampled_from(NAMES), st.integers(0, 10**12), st.integers(0, 10**6)),
    unique_by=lambda blob: blob.sha256,
)


@given(stored, st.sets(st.sampled_from(NAMES)), st.integers(0, 10**6), st.integers(0, 10**6))
def test_each_blob_is_named_waiting_or_removed(blobs, named, now_unix_ms, grace_ms):
    plan = plan_collection(blobs, named, now_unix_ms=now_unix_ms, grace_ms=grace_ms)
    for blob in blobs:
        is_due = blob.sha256 not in named and now_unix_ms - blob.touched_unix_ms > grace_ms
        assert (blob in plan.remove) == is_due
    assert plan.named == sum(blob.sha256 in named for blob in blobs)
    assert len(plan.remove) + plan.named + plan.waiting == len(blobs)
    later = plan_collection(blobs, named, now_unix_ms=2 * 10**6 + grace_ms + 1, grace_ms=grace_ms)
    assert {one.sha256 for one in later.remove} == {one.sha256 for one in blobs} - named
