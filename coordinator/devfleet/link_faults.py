"""Which links between hosts are broken, and how: what tests and demonstrations ask a relay for."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from protos.domain.errors import InvalidRequest


class Fault(enum.StrEnum):
    """What can be done to the link from a source to a destination."""

    #: Nothing passes between the two, either way, whoever dialled.
    CUT = "cut"
    #: Nothing passes from the source to the destination; the other way it does.
    ONE_WAY = "one-way"
    #: Connections that the source dials are accepted, and nothing is ever said on them.
    HALF_OPEN = "half-open"
    #: Connections that the source dials are reset, the standing ones too.
    REFUSE = "refuse"
    #: All is well again between the two.
    HEAL = "heal"


@dataclass(slots=True)
class LinkFaults:
    """Pure bookkeeping; pairs are (source, destination)."""

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
        """Whether connections dialled by ``source`` meet silence."""
        return (source, destination) in self._half_open

    def refuses(self, source: str, destination: str) -> bool:
        """Whether connections dialled by ``source`` are reset."""
        return (source, destination) in self._refused
