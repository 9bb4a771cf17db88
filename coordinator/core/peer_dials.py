"""Decides which node dials which other's peer address, so that a wrong one is seen. Pure.

An address that nobody can dial shows in no health: its node reports, answers its clients, and
every request that another agent sends to it fails. So each address is dialled once by another
agent, again at a growing interval while that fails, and never again while it stays the same.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

#: Time for the table with a new address to reach the node that dials.
SETTLE_MS = 3_000.0
RETRY_MIN_MS = 5_000.0
RETRY_MAX_MS = 300_000.0
#: Dials ordered at one time, so that a fleet that reconnects does not dial all at once.
MAX_AT_ONCE = 32

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Dial:
    """An order: ``by`` dials the peer address of ``node_id``."""

    by: str
    node_id: str
    address: Address


@dataclass(frozen=True, slots=True)
class DialResult:
    """The result of the last dial; ``failure`` is empty when it succeeded."""

    by: str
    address: Address
    failure: str
    at_mono_ms: float


@dataclass(slots=True)
class _Watched:
    address: Address
    next_mono_ms: float
    failures: int = 0
    in_progress: bool = False
    result: DialResult | None = None
    #: Nodes that have dialled it since it changed, so that another is asked next.
    asked: list[str] = field(default_factory=list)


class PeerDials:
    """The peer addresses of all listed nodes. Times must not decrease."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}

    def result(self, node_id: str) -> DialResult | None:
        """Return the last result of a node's present address; None before the first."""
        watched = self._watched.get(node_id)
        return None if watched is None else watched.result

    def list_addresses(self, addresses: Mapping[str, Address], now_mono_ms: float) -> None:
        """Take the addresses of all listed nodes; a new or changed one is dialled soon."""
        for node_id in self._watched.keys() - addresses.keys():
            del self._watched[node_id]
        for node_id, address in addresses.items():
            watched = self._watched.get(node_id)
            if watched is None or watched.address != address:
                self._watched[node_id] = _Watched(address, now_mono_ms + SETTLE_MS)

    def due(
        self, connected: Mapping[str, str], now_mono_ms: float, *, serving: Collection[str]
    ) -> list[Dial]:
        """Return what is to be dialled now.

        ``connected`` is node -> POP of the nodes that can be asked; ``serving`` are the nodes whose
        ports are open. A node of another POP is preferred, then one that was not asked yet.
        """
        running = sum(one.in_progress for one in self._watched.values())
        orders: list[Dial] = []
        for node_id, watched in sorted(self._watched.items()):
            if running + len(orders) >= MAX_AT_ONCE:
                break
            if watched.in_progress or node_id not in serving or now_mono_ms < watched.next_mono_ms:
                continue
            by = _dialler(node_id, connected, watched.asked)
            if by is None:
                continue
            watched.in_progress = True
            watched.asked = [*watched.asked[-MAX_AT_ONCE:], by]
            orders.append(Dial(by, node_id, watched.address))
        return orders

    def done(self, dial: Dial, failure: str | None, now_mono_ms: float) -> DialResult | None:
        """Record the result: None when the node could not be asked, empty when it reached it.

        Return the result if it is of the present address.
        """
        watched = self._watched.get(dial.node_id)
        if watched is None or watched.address != dial.address:
            return None
        watched.in_progress = False
        if failure is None:
            watched.next_mono_ms = now_mono_ms + RETRY_MIN_MS
            return None
        watched.result = DialResult(dial.by, dial.address, failure, now_mono_ms)
        if failure:
            delay_ms = min(RETRY_MIN_MS * 2.0 ** min(watched.failures, 16), RETRY_MAX_MS)
            watched.failures += 1
            watched.next_mono_ms = now_mono_ms + delay_ms
        else:
            watched.next_mono_ms = math.inf
        return watched.result


def _dialler(node_id: str, connected: Mapping[str, str], asked: list[str]) -> str | None:
    own_pop = connected.get(node_id)
    others = (other for other in connected if other != node_id)
    return min(
        others,
        key=lambda other: (asked.count(other), connected[other] == own_pop, other),
        default=None,
    )
