"""Writes table images to disk after changes, off the event loop and at a limited rate."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.link.table_files import Image, TableFiles

if TYPE_CHECKING:
    from agent.link.status import CredentialsAge
    from agent.link.tables import TableKeeper

_log = logging.getLogger(__name__)

#: Changes within this time are written in one image.
_DEBOUNCE_S = 0.2
#: An image is written this often without a change, to refresh the credentials' age on disk.
_REFRESH_S = 3_600.0
_RETRY_S = 5.0


class TablePersistence:
    """Writes an image after a change; failures are logged once and retried."""

    def __init__(
        self,
        files: TableFiles,
        tables: TableKeeper,
        credentials: CredentialsAge,
        now_unix_ms: Callable[[], int],
    ) -> None:
        self._files = files
        self._tables = tables
        self._credentials = credentials
        self._now_unix_ms = now_unix_ms
        self._changed = asyncio.Event()
        self._failing = False
        self.written = 0

    def changed(self) -> None:
        """Schedule an image: the tables have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_REFRESH_S):
                    await self._changed.wait()
            except TimeoutError:
                if not self._tables.loaded:
                    continue
            await asyncio.sleep(_DEBOUNCE_S)
            self._changed.clear()
            if not await self._write():
                await asyncio.sleep(_RETRY_S)
                self._changed.set()

    async def flush(self) -> None:
        """Write now if something has changed since the last image."""
        if self._changed.is_set():
            self._changed.clear()
            await self._write()

    async def _write(self) -> bool:
        confirmed = self._credentials.confirmed_unix_ms(self._now_unix_ms())
        image = Image(tuple(self._tables.tables.values()), confirmed)
        try:
            await asyncio.to_thread(self._files.save, image)
        except OSError as error:
            if not self._failing:
                _log.error("table image not written, trying again reason=%s", error)
            self._failing = True
            return False
        if self._failing:
            _log.info("table images are written again")
        self._failing = False
        self.written += 1
        return True
