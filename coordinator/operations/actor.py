"""Who asks for something to be done: an operator with a role, or an account with a key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordinator.core.operators import Role

_ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class Actor:
    """A known party. Its text is the actor of the audit, such as ``operator/ana``.

    ``role`` is None for an account, which may do what ``acts.OF_ACCOUNTS`` lists, to its own.
    """

    kind: str
    name: str
    role: Role | None
    address: str

    @classmethod
    def of_account(cls, account_id: str, address: str = "") -> Actor:
        """Return the holder of a key of ``account_id``."""
        return cls(_ACCOUNT, account_id, None, address)

    @property
    def account_id(self) -> str:
        """The account that asks; empty for an operator."""
        return self.name if self.kind == _ACCOUNT else ""

    def sees(self, owner_account_id: str) -> bool:
        """Return whether it may read what an account owns; empty: the operators, for everyone."""
        return self.role is not None or owner_account_id in ("", self.account_id)

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"
