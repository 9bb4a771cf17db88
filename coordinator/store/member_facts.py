"""Facts of accounts: what is known of them, their members, tokens and invitations."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from coordinator.core.members import AccountInfo, Invitation, Member, MemberRole, MemberToken
from coordinator.store.fact_types import FactType, fact_json

_INFO_FIELDS = frozenset(one.name for one in fields(AccountInfo)) - {"account_id"}


@dataclass(frozen=True, slots=True)
class AccountRow:
    """What is known of an account."""

    TYPE: ClassVar = FactType.ACCOUNT

    info: AccountInfo

    @property
    def key(self) -> str:
        """The account's name."""
        return self.info.account_id

    def encode(self) -> bytes:
        """Return the payload."""
        return fact_json(**_without(asdict(self.info), "account_id"))

    @classmethod
    def decode(cls, key: str, payload: bytes) -> AccountRow:
        """Return the fact in ``payload``."""
        value = json.loads(payload)
        return cls(AccountInfo(key, **{name: value[name] for name in _INFO_FIELDS & value.keys()}))


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member of an account."""

    TYPE: ClassVar = FactType.MEMBER

    member: Member

    @property
    def key(self) -> str:
        """The member's id."""
        return self.member.id

    def encode(self) -> bytes:
        """Return the payload."""
        return fact_json(**_without(asdict(self.member), "id"))

    @classmethod
    def decode(cls, key: str, payload: bytes) -> MemberRow:
        """Return the fact in ``payload``."""
        value = json.loads(payload)
        return cls(
            Member(
                id=key,
                account_id=value["account_id"],
                email=value["email"],
                role=MemberRole(value["role"]),
                created_unix_ms=value["created_unix_ms"],
                invited_by=value.get("invited_by", ""),
            )
        )


@dataclass(frozen=True, slots=True)
class MemberTokenRow:
    """A token of a member."""

    TYPE: ClassVar = FactType.MEMBER_TOKEN

    token: MemberToken

    @property
    def key(self) -> str:
        """The token's id."""
        return self.token.id

    def encode(self) -> bytes:
        """Return the payload."""
        values = _without(asdict(self.token), "id")
        return fact_json(**{**values, "digest": self.token.digest.hex()})

    @classmethod
    def decode(cls, key: str, payload: bytes) -> MemberTokenRow:
        """Return the fact in ``payload``."""
        value = json.loads(payload)
        return cls(
            MemberToken(
                id=key,
                member_id=value["member_id"],
                digest=bytes.fromhex(value["digest"]),
                name=value.get("name", ""),
                created_unix_ms=value["created_unix_ms"],
                expires_unix_ms=value["expires_unix_ms"],
                last_used_unix_ms=value.get("last_used_unix_ms", 0),
            )
        )


@dataclass(frozen=True, slots=True)
class InvitationRow:
    """An invitation that was not used. It is removed when it is."""

    TYPE: ClassVar = FactType.INVITATION

    invitation: Invitation

    @property
    def key(self) -> str:
        """The invitation's id."""
        return self.invitation.id

    def encode(self) -> bytes:
        """Return the payload."""
        values = _without(asdict(self.invitation), "id")
        return fact_json(**{**values, "digest": self.invitation.digest.hex()})

    @classmethod
    def decode(cls, key: str, payload: bytes) -> InvitationRow:
        """Return the fact in ``payload``."""
        value = json.loads(payload)
        return cls(
            Invitation(
                id=key,
                digest=bytes.fromhex(value["digest"]),
                account_id=value["account_id"],
                role=MemberRole(value["role"]),
                email=value["email"],
                created_unix_ms=value["created_unix_ms"],
                created_by=value["created_by"],
                expires_unix_ms=value["expires_unix_ms"],
            )
        )


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}
