"""Who asks for something to be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordinator.core.operators import Role


@dataclass(frozen=True, slots=True)
class Actor:
    """A known party. Its text is the actor of the audit, such as ``operator/ana``."""

    kind: str
    name: str
    role: Role
    address: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"
