"""Who asks for something to be done: an operator, an account with a key, or a member of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.errors import NotFound

if TYPE_CHECKING:
    from coordinator.core.members import Member, MemberRole
    from coordinator.core.operators import Role

_ACCOUNT = "account"
_MEMBER = "member"


@dataclass(frozen=True, slots=True)
class Actor:
    """A known party. Its text is the actor of the audit, such as ``operator/ana``.

    ``role`` is None for an account, which may do what ``acts.OF_ACCOUNTS`` lists, to its own, and
    for a member of one, which may do what ``acts.OF_MEMBERS`` lists for its ``member_role``.
    """

    kind: str
    name: str
    role: Role | None
    address: str
    member_role: MemberRole | None = None
    #: Of a member.
    member_of: str = ""

    @classmethod
    def of_account(cls, account_id: str, address: str = "") -> Actor:
        """Return the holder of a key of ``account_id``."""
        return cls(_ACCOUNT, account_id, None, address)

    @classmethod
    def of_member(cls, member: Member, address: str = "") -> Actor:
        """Return a member of an account."""
        return cls(_MEMBER, member.id, None, address, member.role, member.account_id)

    @property
    def account_id(self) -> str:
        """The account that asks; empty for an operator."""
        return self.name if self.kind == _ACCOUNT else self.member_of

    @property
    def member_id(self) -> str:
        """The member that asks; empty for others."""
        return self.name if self.kind == _MEMBER else ""

    def sees(self, owner_account_id: str) -> bool:
        """Return whether it may read what an account owns; empty: the operators, for everyone."""
        return self.role is not None or owner_account_id in ("", self.account_id)

    def own(self, account_id: str) -> str:
        """Return the account that an act is about; empty means an account's own.

        Raises: NotFound for another account than the actor's.
        """
        if self.role is not None:
            return account_id
        if account_id not in ("", self.account_id):
            raise NotFound(f"there is no account {account_id[:80]!r}", "leave it out: your own")
        return self.account_id

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"
