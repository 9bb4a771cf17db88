"""When a version of the price card may have been in force where a request began. Pure.

A request is priced by the card that its agent has when it begins. An agent that is cut off keeps
its card for as long as its credentials are valid. Beyond that a version is a choice: the dearest,
or the cheapest, that there ever was.
"""

from __future__ import annotations

_DAY_MS = 86_400_000
#: How long after its end a version may be met: credentials are valid for 7 days, and clocks differ.
OUTLIVES_MS = 8 * _DAY_MS
#: How far before its date: an agent's clock may be behind while it has the newest table.
PRECEDES_MS = _DAY_MS


class CardTimes:
    """From when each version was in force; a later one ends it."""

    def __init__(self) -> None:
        self._began_unix_ms: dict[int, int] = {}
        self._ended_unix_ms: dict[int, int] = {}

    def add(self, version: int, began_unix_ms: int) -> None:
        """Note when ``version`` began; 0: not known."""
        began = self._began_unix_ms
        if not began_unix_ms or version in began:
            return
        began[version] = began_unix_ms
        self._ended_unix_ms.clear()

    def problem(self, version: int, began_unix_ms: int) -> str:
        """Return why a request that began then cannot have this card; empty if it can. Hot."""
        if began_unix_ms + PRECEDES_MS < self._began_unix_ms.get(version, 0):
            return f"price card {version} was not in force yet when it began"
        ended = self._ended_unix_ms.get(version)
        if ended is None:
            ended = self._ended_unix_ms[version] = min(
                (at for later, at in self._began_unix_ms.items() if later > version), default=0
            )
        if ended and began_unix_ms > ended + OUTLIVES_MS:
            return f"price card {version} had long ended when it began"
        return ""
