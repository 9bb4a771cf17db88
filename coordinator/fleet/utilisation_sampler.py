"""Samples how full POPs are, once a minute, from what their agents have reported."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from coordinator.usage.utilisation import PopFill, add_sample
from protos.domain.errors import StoreUnavailable

if TYPE_CHECKING:
    from coordinator.fleet.live import LiveFleet
    from coordinator.store.store import Store
    from coordinator.usage.database import UsageDatabase

_INTERVAL_S = 60.0
#: A report that is older says nothing of this minute.
_FRESH_S = 30.0
_NO_ENGINE = ("", "none")

_log = logging.getLogger(__name__)


class UtilisationSampler:
    """Writes one sample a minute. A minute that cannot be written is left out."""

    def __init__(
        self,
        store: Store,
        live: LiveFleet,
        database: UsageDatabase,
        now_unix_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._live = live
        self._database = database
        self._now_unix_ms = now_unix_ms

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL_S)
            try:
                await self.sample()
            except StoreUnavailable as error:
                _log.warning("utilisation of a minute not kept: %s", error.message)

    async def sample(self) -> Mapping[str, PopFill]:
        """Keep and return the present fill of each POP that reports one."""
        fills = self._fills()
        if fills:
            await self._database.write(add_sample(self._now_unix_ms(), fills))
        return fills

    def _fills(self) -> dict[str, PopFill]:
        """Return the mean over each POP's engines, idle ones too; silent nodes say nothing."""
        ratios: dict[str, list[float]] = {}
        for node_id, record in self._store.node_records().items():
            if record.engine_kind in _NO_ENGINE:
                continue
            live = self._live.live_node(node_id)
            if live is None or not live.connected or not 0 <= live.last_status_age_s <= _FRESH_S:
                continue
            fill_ratio = live.report.fill_ratio
            if fill_ratio is not None:
                ratios.setdefault(record.pop_id, []).append(fill_ratio)
        return {
            pop_id: PopFill(sum(found) / len(found), len(found)) for pop_id, found in ratios.items()
        }
