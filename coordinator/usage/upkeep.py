"""Work on usage beside the listeners: what was seen of the fleet, and records of past days."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from protos.domain.errors import EdgeForgeError

if TYPE_CHECKING:
    from coordinator.sections.usage import UsageSection
    from coordinator.usage.exports import UsageExports
    from coordinator.usage.ingest import Ingest

_log = logging.getLogger(__name__)

_REMEMBER_S = 1.0
#: Passes of ``_REMEMBER_S`` between two looks for records to export.
_EXPORT_PASSES = 600
_DAY_MINUTES = 1_440
_MINUTE_MS = 60_000


class UsageUpkeep:
    """Runs until it is cancelled. A pass that fails is logged; the next one tries again."""

    def __init__(
        self,
        ingest: Ingest,
        exports: UsageExports,
        section: UsageSection,
        now_unix_ms: Callable[[], int],
    ) -> None:
        self._ingest = ingest
        self._exports = exports
        self._section = section
        self._now_unix_ms = now_unix_ms

    async def run(self) -> None:
        """Keep up."""
        passes = 0
        while True:
            try:
                await self._ingest.remember()
                if passes % _EXPORT_PASSES == 0:
                    await self.export_due()
            except EdgeForgeError as error:
                _log.warning("usage not kept up: %s", error)
            except Exception:
                _log.exception("usage not kept up")
            passes += 1
            await asyncio.sleep(_REMEMBER_S)

    async def export_due(self) -> int:
        """Move what is older than ``raw_days``, whole days; return how many records."""
        now_unix_ms = self._now_unix_ms()
        today = now_unix_ms // _MINUTE_MS // _DAY_MINUTES
        moved = await self._exports.export_before(
            (today - self._section.raw_days) * _DAY_MINUTES, now_unix_ms
        )
        if self._section.export_days:
            now = datetime.fromtimestamp(now_unix_ms / 1_000, UTC)
            await self._exports.drop_before(f"{now - timedelta(days=self._section.export_days):%F}")
        return moved
