"""Deletes, from time to time, blobs that no manifest names and uploads that nobody continues."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Set
from typing import TYPE_CHECKING, NamedTuple

from coordinator.core.blob_gc import plan_collection
from protos.domain.errors import EdgeForgeError

if TYPE_CHECKING:
    from coordinator.blobs.interface import BlobStore
    from coordinator.core.blob_gc import CollectionPlan, StoredBlob
    from coordinator.core.fleet_figures import FleetCounters

_log = logging.getLogger(__name__)

#: Between two passes; shorter than any sensible grace time.
INTERVAL_S = 600.0


class Collected(NamedTuple):
    """What one pass has freed."""

    blobs: int = 0
    blob_bytes: int = 0
    partial_bytes: int = 0


class BlobCollector:
    """Runs the collection; used from one event loop."""

    def __init__(
        self,
        blobs: BlobStore,
        named: Callable[[], Set[bytes]],
        *,
        grace_s: float,
        partial_age_s: float,
        counters: FleetCounters,
        now_unix_ms: Callable[[], int],
    ) -> None:
        """``named`` returns every digest that a manifest names, as of now."""
        self._blobs = blobs
        self._named = named
        self._grace_ms = grace_s * 1_000
        self._partial_age_ms = partial_age_s * 1_000
        self._counters = counters
        self._now_unix_ms = now_unix_ms

    async def run(self) -> None:
        """Collect until cancelled. A pass that fails is logged; the next one tries again."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self.collect()
            except EdgeForgeError as error:
                _log.warning("blobs not collected: %s", error)
            except Exception:
                _log.exception("blobs not collected")

    async def plan(self) -> CollectionPlan:
        """Return what a pass would remove now. Raises: StoreUnavailable."""
        stored = await self._blobs.list_all()
        return plan_collection(
            stored, self._named(), now_unix_ms=self._now_unix_ms(), grace_ms=self._grace_ms
        )

    async def collect(self) -> Collected:
        """Remove what may go. Raises: StoreUnavailable; what was removed before is counted."""
        now_unix_ms = self._now_unix_ms()
        partial_bytes = await self._blobs.drop_partials(int(now_unix_ms - self._partial_age_ms))
        removed = removed_bytes = 0
        try:
            for blob in (await self.plan()).remove:
                # Asked again at the moment of removal: a model may have named it meanwhile.
                if await self._blobs.remove(blob, functools.partial(self._may_go, blob)):
                    removed += 1
                    removed_bytes += blob.size_bytes
        finally:
            self._counters.blobs_collected += removed
            self._counters.collected_bytes += removed_bytes + partial_bytes
            if removed or partial_bytes:
                _log.info(
                    "collected blobs=%d bytes=%d unfinished_bytes=%d",
                    removed,
                    removed_bytes,
                    partial_bytes,
                )
        return Collected(removed, removed_bytes, partial_bytes)

    def _may_go(self, blob: StoredBlob) -> bool:
        return blob.sha256 not in self._named()
