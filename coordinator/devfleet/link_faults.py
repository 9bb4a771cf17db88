"""Faults of links between hosts, set through the relay's control socket."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from protos.domain.errors import InvalidRequest


class Fault(enum.StrEnum):
    """A fault of the link from a source to a destination, or its end."""

    #: No byte passes between the two in either direction, whichever side dialled.
    CUT = "cut"
    #: No byte passes from the source to the destination; the other direction works.
    ONE_WAY = "one-way"
    #: Connections that the source dials are accepted and carry no byte.
    HALF_OPEN = "half-open"
    #: Connections that the source dials are reset, open ones too.
    REFUSE = "refuse"
    #: Ends every fault between the two.
    HEAL = "heal"


@dataclass(slots=True)
class LinkFaults:
    """The present faults; pairs are (source, destination)."""

    hosts: frozenset[str]
    _blocked: set[tuple[str, str]] = field(default_factory=set)
    _half_open: set[tuple[str, str]] = field(default_factory=set)
    _refused: set[tuple[str, str]] = field(default_factory=set)

    def apply(self, fault: Fault, source: str, destination: str) -> None:
        """Break or heal one link. Raises: InvalidRequest for a host that is not known."""
        for host in (source, destination):
            if host not in self.hosts:
                known = ", ".join(sorted(self.hosts))
                raise InvalidRequest(f"no host {host!r} on this relay", f"one of {known}")
        forth, back = (source, destination), (destination, source)
        match fault:
            case Fault.CUT:
                self._blocked |= {forth, back}
            case Fault.ONE_WAY:
                self._blocked.add(forth)
            case Fault.HALF_OPEN:
                self._half_open.add(forth)
            case Fault.REFUSE:
                self._refused.add(forth)
            case Fault.HEAL:
                for broken in (self._blocked, self._half_open, self._refused):
                    broken.difference_update((forth, back))

    def blocks(self, sender: str, receiver: str) -> bool:
        """Whether bytes from ``sender`` are held on their way to ``receiver``."""
        return (sender, receiver) in self._blocked

    def silences(self, source: str, destination: str) -> bool:
        """Whether connections dialled by ``source`` carry no byte."""
        return (source, destination) in self._half_open

    def refuses(self, source: str, destination: str) -> bool:
        """Whether connections dialled by ``source`` are reset."""
        return (source, destination) in self._refused
