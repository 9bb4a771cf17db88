"""Two hosts with one identity, as after a copy of an image: noticed, and the second one refused.

A stream that opens while its node has one already is either the same agent again, which has lost
its stream or was restarted, or another host. Another host: it calls from another address while the
present agent still reports; or the process is one that the present one has replaced, which no
restart brings back. The first one connected stays, since its table rows are right. Pure.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

#: A twin is shown for so long after it was last refused; it asks again within a minute.
SHOWN_MS = 600_000.0
#: Replaced processes remembered of one node.
_MAX_REPLACED = 8


@dataclass(frozen=True, slots=True)
class Caller:
    """A process of an agent, new at each start, and the IP address that it calls from."""

    boot_id: str
    address: str


@dataclass(frozen=True, slots=True)
class Twin:
    """The second host was refused at ``at_mono_ms``; ``is_new``: not shown already."""

    first_address: str
    second_address: str
    at_mono_ms: float
    is_new: bool

    def __str__(self) -> str:
        return f"{self.first_address} and {self.second_address}"


class TwinWatch:
    """Who has replaced whom at one node, and its twin that was refused lately."""

    def __init__(self, alive_ms: float) -> None:
        """``alive_ms``: an agent that was heard within this time still runs."""
        self._alive_ms = alive_ms
        self._replaced: deque[str] = deque(maxlen=_MAX_REPLACED)
        self._twin: Twin | None = None

    def opens(
        self, newcomer: Caller, present: Caller | None, heard_mono_ms: float, now_mono_ms: float
    ) -> Twin | None:
        """Return the twin that ``newcomer`` is, to be refused; None: it takes the place.

        ``heard_mono_ms`` is when the agent that holds the present stream was last heard.
        """
        if present is None or present.boot_id == newcomer.boot_id:
            return None
        elsewhere = newcomer.address != present.address or newcomer.boot_id in self._replaced
        if now_mono_ms - heard_mono_ms > self._alive_ms or not elsewhere:
            self._replaced.append(present.boot_id)
            return None
        seen, addresses = self.seen(now_mono_ms), (present.address, newcomer.address)
        is_new = seen is None or (seen.first_address, seen.second_address) != addresses
        self._twin = Twin(*addresses, now_mono_ms, is_new)
        return self._twin

    def seen(self, now_mono_ms: float) -> Twin | None:
        """Return the twin that was refused lately."""
        twin = self._twin
        return None if twin is None or now_mono_ms - twin.at_mono_ms > SHOWN_MS else twin
