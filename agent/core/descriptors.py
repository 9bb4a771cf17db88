"""How the descriptors that a process may have are divided, so that no port takes another's."""

from __future__ import annotations

from dataclasses import dataclass

#: Files, databases, pipes of children, the link to the coordinator, and what libraries open.
RESERVED = 192
#: Connections at once to the metrics port, and to the administration socket.
SURFACE_CONNECTIONS = 32
#: A port has at least so many, however few there are.
MIN_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Descriptors of each use."""

    client: int
    peer: int
    #: Connections that this agent makes to engines and peers.
    upstream: int

    @property
    def needed(self) -> int:
        """How many a process must be allowed to have for these."""
        return self.client + self.peer + self.upstream + RESERVED + 2 * SURFACE_CONNECTIONS


def divide(allowed: int, wanted: Descriptors) -> Descriptors:
    """Return ``wanted``, or a proportional part of it where only ``allowed`` are to be had."""
    if wanted.needed <= allowed:
        return wanted
    fixed = RESERVED + 2 * SURFACE_CONNECTIONS
    ratio = max(0.0, (allowed - fixed) / (wanted.needed - fixed))

    def part(number: int) -> int:
        return min(number, max(MIN_CONNECTIONS, int(number * ratio)))

    return Descriptors(part(wanted.client), part(wanted.peer), part(wanted.upstream))
