"""The differences between two versions of the price card, in percent. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.core.price_card import line_of
from protos.domain.card_document import RATES, SURCHARGES
from protos.domain.pricing import SIZE_CLASSES
from protos.domain.resources import Tier

if TYPE_CHECKING:
    from protos.domain.resources import CardTerms, Price


@dataclass(frozen=True, slots=True)
class CardChange:
    """One number that differs; None: the card does not have it. ``what``: "xs edge prompt"."""

    what: str
    before: int | None
    after: int | None

    @property
    def percent(self) -> str:
        """The change of a rate in percent, with one decimal: "+5.0 %"."""
        if self.before is None:
            return "new"
        if self.after is None:
            return "gone"
        if not self.before:
            return ""
        tenths, sign = (self.after - self.before) * 1_000, "+" if self.after > self.before else "-"
        whole, tenth = divmod((abs(tenths) + self.before // 2) // self.before, 10)
        return f"{sign}{whole}.{tenth} %"


def changes_of(
    before: tuple[Collection[Price], CardTerms], after: tuple[Collection[Price], CardTerms]
) -> list[CardChange]:
    """Return every rate and every percentage that differs, in the order of the card."""
    old_lines, old_terms = before
    new_lines, new_terms = after
    found = []
    for size_class, tier in _places(old_lines, new_lines):
        old, new = line_of(old_lines, size_class, tier), line_of(new_lines, size_class, tier)
        for name in RATES:
            word = name.split("_")[0]
            found.append(
                CardChange(
                    f"{size_class} {tier} {word}",
                    getattr(old, name) if old else None,
                    getattr(new, name) if new else None,
                )
            )
    for field in (*SURCHARGES.values(), "promise_percent", "credit_percent"):
        word = field.removesuffix("_percent")
        kind = "surcharge of " if field in SURCHARGES.values() else ""
        found.append(
            CardChange(
                f"{kind}{word}, percent", getattr(old_terms, field), getattr(new_terms, field)
            )
        )
    return [one for one in found if one.before != one.after]


def _places(*cards: Collection[Price]) -> list[tuple[str, Tier]]:
    known = {(line.size_class, line.tier) for lines in cards for line in lines}
    tiers = list(Tier)
    return sorted(known, key=lambda one: (_order(one[0]), one[0], tiers.index(one[1])))


def _order(size_class: str) -> int:
    known = size_class in SIZE_CLASSES
    return SIZE_CLASSES.index(size_class) if known else len(SIZE_CLASSES)
