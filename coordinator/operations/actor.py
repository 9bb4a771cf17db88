"""Who asks for something to be done."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Role(enum.StrEnum):
    """What an operator may do; each role may do all that the one before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Return whether this role may do what ``needed`` may."""
        return _RANKS[self] >= _RANKS[needed]


_RANKS = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, slots=True)
class Actor:
    """A known party. Its text is the actor of the audit, such as ``operator/ana``."""

    kind: str
    name: str
    role: Role
    address: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"
