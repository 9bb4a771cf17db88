"""Background work on blobs: the collection of unnamed ones, piece digests of older manifests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from coordinator.blobs.collector import BlobCollector
from coordinator.fleet.manifest_pieces import ManifestPieces

if TYPE_CHECKING:
    import asyncio

    from coordinator.blobs.interface import BlobStore
    from coordinator.core.fleet_figures import FleetCounters
    from coordinator.sections.blobs import BlobsSection
    from coordinator.store.store import Store


_NOTHING: frozenset[bytes] = frozenset()


class BlobUpkeep(NamedTuple):
    """Two tasks that run beside the listeners."""

    collector: BlobCollector
    pieces: ManifestPieces

    def start(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Start both."""
        return [
            group.create_task(self.collector.run(), name="blob-collection"),
            group.create_task(self.pieces.run(), name="manifest-pieces"),
        ]


class NamedBlobs:
    """Every digest that a manifest names, gathered once for each state, and those of ``also``."""

    def __init__(
        self, store: Store, also: Callable[[], frozenset[bytes]] = lambda: _NOTHING
    ) -> None:
        self._store = store
        self._also = also
        self._last = _NOTHING
        self._seq = -1
        self._named: frozenset[bytes] = frozenset()

    def __call__(self) -> frozenset[bytes]:
        """Return the digests as of now."""
        also = self._also()
        if self._seq != self._store.seq or self._last is not also:
            manifests = self._store.manifests().values()
            named = frozenset(file.sha256 for files in manifests for file in files)
            self._named = named | also
            self._seq, self._last = self._store.seq, also
        return self._named


def make_blob_upkeep(
    store: Store,
    blobs: BlobStore,
    section: BlobsSection,
    counters: FleetCounters,
    now_unix_ms: Callable[[], int],
    on_manifests: Callable[[], None],
    *,
    also_named: Callable[[], frozenset[bytes]] = lambda: _NOTHING,
) -> BlobUpkeep:
    """Assemble the tasks. ``on_manifests`` is called after piece digests were filled in.

    ``also_named`` returns the digests of what is kept beside the registry's objects.
    """
    collector = BlobCollector(
        blobs,
        NamedBlobs(store, also_named),
        grace_s=section.gc_grace_s,
        partial_age_s=section.partial_age_s,
        counters=counters,
        now_unix_ms=now_unix_ms,
    )
    return BlobUpkeep(collector, ManifestPieces(store, blobs, on_manifests))
