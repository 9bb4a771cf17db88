"""Operators: their roles, who of them is admitted, and the rule that one admin stays."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field


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
class Operator:
    """An operator, kept after a revocation too. The certificate is the newest one issued."""

    name: str
    role: Role
    created_unix_ms: int
    #: ``operator/<name>`` of the admin who invited it, or ``coordinator``.
    invited_by: str
    #: Of the one key that this operator logs in with; renewals keep it.
    public_key_sha256: bytes = field(repr=False)
    certificate_serial: int
    certificate_not_after_unix_ms: int
    #: 0: not revoked.
    revoked_unix_ms: int = 0

    @property
    def revoked(self) -> bool:
        """Whether it has been revoked."""
        return self.revoked_unix_ms != 0

    def admits(self, public_key_sha256: bytes) -> bool:
        """Return whether the holder of this key is the operator, now.

        The key decides, not the serial: a database that was restored from a backup knows no
        certificate that was renewed since, and a name that was invited again has another key.
        """
        return not self.revoked and self.public_key_sha256 == public_key_sha256


def leaves_no_admin(operators: Iterable[Operator], name: str, now_unix_ms: int) -> bool:
    """Return whether nobody could administer the fleet if ``name`` were no admin.

    An admin whose certificate has expired cannot log in, and does not count.
    """
    return not any(
        one.role is Role.ADMIN
        and not one.revoked
        and one.name != name
        and one.certificate_not_after_unix_ms > now_unix_ms
        for one in operators
    )
