"""Which version of the price card takes effect, and by which clock. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from protos.domain.price_card import CardState, PriceCard

if TYPE_CHECKING:
    from protos.domain.fleet_view import FleetView

#: A wall clock that leaves the monotonic one by more has jumped; less is a correction.
JUMP_MS = 2_000
#: How long a wall clock that has jumped must run evenly until it is believed.
SETTLE_MS = 600_000


class SettledClock:
    """The wall clock, without jumps that have not lasted yet.

    Until a jump has lasted ``SETTLE_MS``, it shows the earlier of the wall clock and of what that
    clock would show without the jump. So a clock that is wrong for minutes puts no price in force
    early. A new one believes the wall clock: nothing else is known after a restart.
    """

    def __init__(self, now_unix_ms: int, now_mono_ms: float) -> None:
        self._believed_ms = now_unix_ms - now_mono_ms
        self._seen_ms = self._believed_ms
        self._seen_since_mono_ms = now_mono_ms

    def now_unix_ms(self, wall_unix_ms: int, now_mono_ms: float) -> int:
        """Return the time to act by; called at least once in a few minutes."""
        offset_ms = wall_unix_ms - now_mono_ms
        if abs(offset_ms - self._seen_ms) > JUMP_MS:
            self._seen_since_mono_ms = now_mono_ms
        self._seen_ms = offset_ms
        if abs(offset_ms - self._believed_ms) <= JUMP_MS or (
            now_mono_ms - self._seen_since_mono_ms >= SETTLE_MS
        ):
            self._believed_ms = offset_ms
            return wall_unix_ms
        return min(wall_unix_ms, int(self._believed_ms + now_mono_ms))


def version_in_force(view: FleetView) -> int:
    """Return the version whose rows agents hold; 0: there is no card."""
    terms = view.card.get("terms")
    if terms is not None:
        return terms.version
    return max((line.card_version for line in view.prices.values()), default=0)


def due_card(cards: Mapping[int, PriceCard], in_force: int, now_unix_ms: int) -> PriceCard | None:
    """Return the newest published card whose date has come and that is not in force yet."""
    due = [
        card
        for card in upcoming_cards(cards.values(), in_force)
        if card.valid_from_unix_ms <= now_unix_ms
    ]
    return due[-1] if due else None


def upcoming_cards(cards: Iterable[PriceCard], in_force: int) -> list[PriceCard]:
    """Return the published cards that have not taken effect, the soonest first."""
    found = [
        card for card in cards if card.state is CardState.PUBLISHED and card.version > in_force
    ]
    return sorted(found, key=lambda card: (card.valid_from_unix_ms, card.version))


def card_at(cards: Iterable[PriceCard], at_unix_ms: int) -> PriceCard | None:
    """Return the card that was, or is to be, in force at a moment."""
    then = [
        card
        for card in cards
        if card.state is not CardState.DRAFT and card.valid_from_unix_ms <= at_unix_ms
    ]
    return max(then, key=lambda card: card.version, default=None)
