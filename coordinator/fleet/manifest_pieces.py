"""Fills in piece digests of manifests that were stored by a version that did not know them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from coordinator.blobs.piece_digests import lacks_pieces, with_pieces
from coordinator.store import models
from protos.domain.errors import EdgeForgeError

if TYPE_CHECKING:
    from coordinator.blobs.interface import BlobStore
    from coordinator.store.store import Store

_log = logging.getLogger(__name__)

_RETRY_S = 300.0


class ManifestPieces:
    """Runs once after a start, and again for what could not be read then."""

    def __init__(self, store: Store, blobs: BlobStore, on_filled: Callable[[], None]) -> None:
        """``on_filled`` is called after manifests have changed."""
        self._store = store
        self._blobs = blobs
        self._on_filled = on_filled

    async def run(self) -> None:
        """Fill until no manifest lacks anything."""
        while True:
            if not await self.fill():
                return
            await asyncio.sleep(_RETRY_S)

    async def fill(self) -> int:
        """Fill each manifest that lacks digests; return how many could not be filled."""
        failed = filled = 0
        for model, files in list(self._store.manifests().items()):
            if not lacks_pieces(files):
                continue
            try:
                await self._store.write(
                    models.set_pieces(model, await with_pieces(files, self._blobs))
                )
                filled += 1
            except EdgeForgeError as error:
                failed += 1
                _log.warning("no piece digests for model=%s: %s", model, error)
            except Exception:
                failed += 1
                _log.exception("no piece digests for model=%s", model)
        if filled:
            _log.info("piece digests filled in for models=%d", filled)
            self._on_filled()
        return failed
