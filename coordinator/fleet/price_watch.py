"""Puts a published price card in force when its date comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from coordinator.core.price_schedule import SettledClock, due_card, version_in_force
from coordinator.store import prices
from coordinator.store.records import AuditNote
from protos.domain.errors import StoreUnavailable

if TYPE_CHECKING:
    from coordinator.store.store import Store

#: How late a card may take effect; each look reads memory only.
_LOOK_S = 1.0

_log = logging.getLogger(__name__)


class PriceWatch:
    """Looks for a due card once a second.

    What is due is decided from the store alone: a coordinator that was stopped over a date catches
    up when it starts.
    """

    def __init__(
        self,
        store: Store,
        *,
        now_unix_ms: Callable[[], int],
        now_mono_ms: Callable[[], float],
    ) -> None:
        self._store = store
        self._now_unix_ms = now_unix_ms
        self._now_mono_ms = now_mono_ms
        self._clock = SettledClock(now_unix_ms(), now_mono_ms())

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.look()
            except StoreUnavailable as error:
                _log.warning("price card not put in force, tried again: %s", error.message)
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> int:
        """Put a due card in force; return its version, 0 if none was. Raises: StoreUnavailable."""
        now_unix_ms = self._clock.now_unix_ms(self._now_unix_ms(), self._now_mono_ms())
        cards = self._store.price_cards()
        card = due_card(cards, version_in_force(self._store.view()), now_unix_ms)
        if card is None:
            return 0
        note = AuditNote("coordinator", "price.in_force", f"price_card/{card.version}")
        if not await self._store.write(prices.take_effect(card.version), note):
            return 0
        _log.info("price card in force version=%d", card.version)
        return card.version


async def adopt_card(store: Store) -> None:
    """Keep the card of an older database as a version, so that its records can be verified."""
    if version_in_force(store.view()) not in store.price_cards():
        await store.write(prices.adopt())
