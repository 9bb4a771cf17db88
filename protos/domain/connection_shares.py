"""Which connections a port keeps when there are too many: decided at accept, by source address.

A connection is a *stranger* until it has shown who it is: a valid key, or a peer's certificate.
Strangers may hold a part of the port. Over it, or when the port is full, an idle connection ends
for the new one: first a stranger's, of the address that holds most of them, the oldest first.
Connections that serve a request are never ended; one whose request is still arriving is idle since
its head arrived, because who sends slowly would hold its place for nothing.

An address that holds many connections of strangers may replace only some of them in a second; more
are refused, which takes a tenth of the time: a flood must not delay the accepting of others.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

#: The part of a port that strangers may hold: 1 / this, and at least so many.
STRANGERS_PART = 4
MIN_STRANGERS = 16
#: While strangers hold less than 1 / this of a full port, idle known connections end before them:
#: who arrives needs a moment to show a key.
_ROOM_PART = 8
#: Replacements in a second for addresses that hold more than half as many as the heaviest, and how
#: many at once.
REPLACED_PER_S = 500.0
REPLACED_AT_ONCE = 64.0
#: Connections of an address that are looked at to find the one that is idle for longest, and
#: addresses that are looked at until one has an idle connection.
_LOOKED_AT = 32


def source_group(host: str) -> str:
    """Return what a source address is counted under: IPv4 by address, IPv6 by its /64."""
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(address) >> 64 << 64)) + "/64"


class Place:
    """One connection's place in a port."""

    def __init__(self, group: str, now_mono_ms: float) -> None:
        self.group = group
        self.known = False
        #: Serves a request. Written by the connection itself.
        self.busy = False
        self.idle_since_mono_ms = now_mono_ms
        self.gone = False


@dataclass(slots=True)
class Admission:
    """Whether a connection is accepted, and which one must end for it."""

    place: Place | None
    evicted: Place | None = None


class _Groups:
    """Places by group, and the heaviest group in constant time."""

    def __init__(self) -> None:
        self.total = 0
        self._places: dict[str, dict[Place, None]] = {}
        #: Groups by how many places they have; keys from 1 to ``_most``.
        self._by_size: dict[int, dict[str, None]] = {}
        self._most = 0

    def add(self, place: Place) -> None:
        places = self._places.setdefault(place.group, {})
        places[place] = None
        self.total += 1
        self._resize(place.group, len(places) - 1, len(places))

    def remove(self, place: Place) -> None:
        places = self._places[place.group]
        del places[place]
        self.total -= 1
        if not places:
            del self._places[place.group]
        self._resize(place.group, len(places) + 1, len(places))

    def size(self, group: str) -> int:
        """Return how many places a group has."""
        return len(self._places.get(group, ()))

    def idlest(self) -> Place | None:
        """Return an idle place of the heaviest group that has one, of those idle for longest."""
        looked_at = 0
        for size in sorted(self._by_size, reverse=True):
            for group in self._by_size[size]:
                found = self._idlest_of(self._places[group])
                looked_at += 1
                if found is not None or looked_at >= _LOOKED_AT:
                    return found
        return None

    def _idlest_of(self, places: dict[Place, None]) -> Place | None:
        """Look at some of ``places``; those that are busy are looked at last the next time."""
        found: Place | None = None
        busy: list[Place] = []
        for place, _ in zip(places, range(_LOOKED_AT), strict=False):
            if place.busy:
                busy.append(place)
            elif found is None or place.idle_since_mono_ms < found.idle_since_mono_ms:
                found = place
        for place in busy:
            del places[place]
            places[place] = None
        return found

    def _resize(self, group: str, before: int, now: int) -> None:
        by_size = self._by_size
        if before:
            same = by_size[before]
            del same[group]
            if not same:
                del by_size[before]
        if now:
            by_size.setdefault(now, {})[group] = None
        if now > self._most:
            self._most = now
        elif before == self._most and before not in by_size:
            self._most = now  # ``before`` differs from it by one


class ConnectionShares:
    """The places of one port. For one event loop. ``strangers_part``: they hold 1 / this of it."""

    def __init__(self, limit: int, strangers_part: int = STRANGERS_PART) -> None:
        self.limit = limit
        self._most_strangers = min(limit, max(MIN_STRANGERS, limit // strangers_part))
        self._strangers = _Groups()
        self._known = _Groups()
        self.evicted = 0
        self._replaceable = REPLACED_AT_ONCE
        self._replaceable_mono_ms = 0.0

    @property
    def strangers(self) -> int:
        """Connections that have not shown who they are."""
        return self._strangers.total

    @property
    def total(self) -> int:
        return self._strangers.total + self._known.total

    def admit(self, group: str, now_mono_ms: float) -> Admission:
        """Decide on a new connection. The evicted place has left already."""
        strangers, full = self._strangers, self.total >= self.limit
        victim: Place | None = None
        if strangers.total >= self._most_strangers:
            victim = strangers.idlest()
            if victim is None:
                return Admission(None)
        elif full:
            victim = self._victim_when_full()
            if victim is None:
                return Admission(None)
        if victim is not None:
            if not self._may_replace(group, victim, now_mono_ms):
                return Admission(None)
            self.leave(victim)
            self.evicted += 1
        place = Place(group, now_mono_ms)
        strangers.add(place)
        return Admission(place, victim)

    def show(self, place: Place) -> None:
        """The connection has shown who it is."""
        if place.known or place.gone:
            return
        self._strangers.remove(place)
        place.known = True
        self._known.add(place)

    def leave(self, place: Place) -> None:
        """The connection has ended; calling it again changes nothing."""
        if place.gone:
            return
        place.gone = True
        (self._known if place.known else self._strangers).remove(place)

    def _may_replace(self, group: str, victim: Place, now_mono_ms: float) -> bool:
        """Whether a newcomer of ``group`` may replace ``victim`` now."""
        if victim.known or 2 * self._strangers.size(group) <= self._strangers.size(victim.group):
            return True
        gained = (now_mono_ms - self._replaceable_mono_ms) * REPLACED_PER_S / 1_000.0
        self._replaceable = min(REPLACED_AT_ONCE, self._replaceable + gained)
        self._replaceable_mono_ms = now_mono_ms
        if self._replaceable < 1.0:
            return False
        self._replaceable -= 1.0
        return True

    def _victim_when_full(self) -> Place | None:
        if self._strangers.total >= max(1, self.limit // _ROOM_PART):
            return self._strangers.idlest() or self._known.idlest()
        return self._known.idlest() or self._strangers.idlest()
