"""Which stored blobs may go: those that no manifest names, after a grace time."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

#: Removed in one pass; the next pass goes on.
MAX_REMOVALS: Final = 10_000


class StoredBlob(NamedTuple):
    """A stored blob, and when it was last received, found or leased."""

    sha256: bytes
    size_bytes: int
    touched_unix_ms: int


class CollectionPlan(NamedTuple):
    """What a pass of the collection would do."""

    #: To be removed, the longest untouched first.
    remove: tuple[StoredBlob, ...]
    named: int
    #: Not named, but touched within the grace time or beyond the limit of one pass.
    waiting: int


def plan_collection(
    blobs: Iterable[StoredBlob], named: Collection[bytes], *, now_unix_ms: int, grace_ms: float
) -> CollectionPlan:
    """Return which blobs may go. A blob touched "in the future", by a clock set back, stays."""
    named_count, waiting, old = 0, 0, []
    for blob in blobs:
        if blob.sha256 in named:
            named_count += 1
        elif now_unix_ms - blob.touched_unix_ms > grace_ms:
            old.append(blob)
        else:
            waiting += 1
    old.sort(key=lambda blob: (blob.touched_unix_ms, blob.sha256))
    remove = tuple(old[:MAX_REMOVALS])
    return CollectionPlan(remove, named_count, waiting + len(old) - len(remove))
