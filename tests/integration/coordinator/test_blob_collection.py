"""Imports and collections in any order, on a real disk."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.blobs.collector import BlobCollector
from coordinator.blobs.folder import FolderStore
from coordinator.core.fleet_figures import FleetCounters

CONTENTS = [bytes([one]) for one in range(3)]
DIGESTS = [hashlib.sha256(one).digest() for one in CONTENTS]
#: What an import does, one step after the other, and what goes on beside it.
steps = st.lists(
    st.tuples(
        st.sampled_from(["write", "find", "lease", "name", "forget", "age", "collect"]),
        st.integers(0, 2),
    ),
    max_size=25,
)


@settings(max_examples=100)
@given(steps)
def test_no_order_of_imports_and_collections_loses_what_is_named_found_or_leased(done):
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_walk(FolderStore.open(Path(folder), reserve_bytes=0), done))


async def _walk(blobs: FolderStore, done: list[tuple[str, int]]) -> None:
    named: set[bytes] = set()
    safe: set[bytes] = set()  # found or written since the last ageing
    leases: list = []
    clock = {"now": 0}
    collector = BlobCollector(
        blobs,
        lambda: named,
        grace_s=60,
        partial_age_s=10**6,
        counters=FleetCounters(),
        now_unix_ms=lambda: clock["now"],
    )

    async def content(index):
        yield CONTENTS[index]

    for what, index in done:
        digest = DIGESTS[index]
        if what == "write":
            await blobs.write(digest, 1, content(index))
            safe.add(digest)
        elif what == "find" and not await blobs.missing([digest]):
            safe.add(digest)
        elif what == "lease" and await blobs.size_bytes(digest) is not None:
            lease = blobs.leased([digest])
            await lease.__aenter__()
            leases.append((digest, lease))
        elif what == "name" and digest in {one for one, _ in leases}:
            named.add(digest)
        elif what == "forget":
            named.discard(digest)
        elif what == "age":
            safe.clear()
            for one in await blobs.list_all():
                async with blobs.local_copy(one.sha256) as path:
                    os.utime(path, (1, 1))
        elif what == "collect":
            before = {one.sha256 for one in await blobs.list_all()}
            touched = [one.touched_unix_ms for one in await blobs.list_all()]
            clock["now"] = max([*touched, 100_000]) + 1
            await collector.collect()
            after = {one.sha256 for one in await blobs.list_all()}
            kept = named | safe | {one for one, _ in leases}
            assert before - after == before - kept
    for _, lease in leases:
        await lease.__aexit__(None, None, None)
