"""What the registry takes from a model card: the licence in the head of ``README.md``."""

from __future__ import annotations

import re
from typing import Final

#: How much of a card is read.
MAX_CARD_BYTES: Final = 16 * 1024
MAX_LICENCE_CHARS: Final = 100

_HEAD: Final = re.compile(r"\A---\r?\n(.{0,16000}?)\r?\n---", re.DOTALL)
_LICENCE: Final = re.compile(
    r"^(license|license_name): *[\"']?([\w.+-]{1,100})[\"']? *$", re.MULTILINE
)


def licence_of(card: str) -> str:
    """Return the licence that the head of a card names; empty: none."""
    head = _HEAD.match(card)
    if head is None:
        return ""
    named: dict[str, str] = dict(_LICENCE.findall(head[1]))
    licence = named.get("license", "")
    return named.get("license_name", licence) if licence == "other" else licence
