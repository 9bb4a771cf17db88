"""Credits of an account: grants and purchased prepaid, with expiry and the order of their use.

A credit pays for requests that began before it expires. Its expiry is a whole minute, as usage is
added up by minutes, so that the comparison is exact.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from protos.domain.errors import InvalidRequest

MINUTE_MS = 60_000
#: Stands for "never" in comparisons.
_NEVER = 2**62


class CreditKind(enum.StrEnum):
    """Where a credit comes from."""

    GRANT = "grant"
    PREPAID = "prepaid"


@dataclass(frozen=True, slots=True)
class Credit:
    """A credit and what is left of it. ``expires_unix_ms`` 0: never."""

    id: int
    kind: CreditKind
    remaining_nano_usd: int
    created_unix_ms: int
    expires_unix_ms: int = 0

    def valid_at(self, unix_ms: int) -> bool:
        """Return whether it pays for what began at ``unix_ms``."""
        return self.remaining_nano_usd > 0 and (
            self.expires_unix_ms == 0 or unix_ms < self.expires_unix_ms
        )


@dataclass(frozen=True, slots=True)
class Use:
    """A part of a credit that is used."""

    credit: Credit
    nano_usd: int


def in_order(credits: Iterable[Credit]) -> list[Credit]:  # noqa: A002 - the field's word
    """Return credits in the order of their use.

    The soonest expiry first; at the same expiry grants before prepaid, then the older.
    """
    return sorted(
        credits,
        key=lambda one: (
            one.expires_unix_ms or _NEVER,
            one.kind is CreditKind.PREPAID,
            one.created_unix_ms,
            one.id,
        ),
    )


def use(credits: Sequence[Credit], nano_usd: int, began_unix_ms: int) -> tuple[list[Use], int]:  # noqa: A002
    """Return which credits pay for usage of a minute, and what no credit paid.

    ``began_unix_ms``: the start of the minute that the requests began in.
    """
    used = []
    for credit in in_order(one for one in credits if one.valid_at(began_unix_ms)):
        if nano_usd <= 0:
            break
        part = min(credit.remaining_nano_usd, nano_usd)
        used.append(Use(credit, part))
        nano_usd -= part
    return used, nano_usd


def remaining(credits: Iterable[Credit], now_unix_ms: int) -> int:  # noqa: A002
    """Return what credits can pay for a request that begins now."""
    return sum(one.remaining_nano_usd for one in credits if one.valid_at(now_unix_ms))


def check_expiry(expires_unix_ms: int, now_unix_ms: int) -> int:
    """Return an expiry as a whole minute, the next one; 0: never. Raises: InvalidRequest."""
    if expires_unix_ms == 0:
        return 0
    if expires_unix_ms <= now_unix_ms:
        raise InvalidRequest("the credit would have expired already", "give a later time")
    return -(-expires_unix_ms // MINUTE_MS) * MINUTE_MS
