"""Customers: accounts, their keys, and what they may use."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class AccountState(enum.StrEnum):
    """What an account may do; each is stricter than the one before."""

    ACTIVE = "active"
    #: A payment is late; nothing is refused yet.
    GRACE = "grace"
    #: New requests are refused where they would add to what is owed.
    LIMITED = "limited"
    #: New requests are refused; running streams end as usual.
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class UsageLimits:
    """What an account or a key may use over the whole fleet; 0: no limit."""

    max_concurrent_sequences: int = 0
    requests_per_minute: int = 0
    tokens_per_minute: int = 0

    def changed(
        self,
        *,
        max_concurrent_sequences: int | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
    ) -> UsageLimits:
        """Return these with what is given; None: as it is."""
        given = (max_concurrent_sequences, requests_per_minute, tokens_per_minute)
        now = (self.max_concurrent_sequences, self.requests_per_minute, self.tokens_per_minute)
        return UsageLimits(
            *(old if new is None else new for old, new in zip(now, given, strict=True))
        )

    @property
    def unlimited(self) -> bool:
        """Whether nothing is limited. Hot."""
        return not (
            self.max_concurrent_sequences or self.requests_per_minute or self.tokens_per_minute
        )


NO_LIMITS = UsageLimits()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A customer's key; after its creation only its SHA-256 ``digest`` is stored."""

    id: str
    digest: bytes
    account_id: str
    deployments: tuple[str, ...]
    expires_unix_ms: int
    limits: UsageLimits = NO_LIMITS
    #: Zones in which the key may be used; empty: all of the account.
    zones: tuple[str, ...] = ()
    #: Paths of the API that it opens, such as "/v1/embeddings"; empty: all.
    endpoints: tuple[str, ...] = ()
    #: Networks that it may be used from, as CIDR; empty: any address.
    origins: tuple[str, ...] = ()
    #: Those of its account, so that the row says by itself which agents may have it.
    account_zones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """What an agent outside a key's zones knows of it: where it may be used; empty: nowhere."""

    id: str
    digest: bytes
    zones: tuple[str, ...]
    expires_unix_ms: int = 0


@dataclass(frozen=True, slots=True)
class Account:
    """A customer.

    ``zones`` are where its requests may be read and served; empty: anywhere. ``funded``: a
    prepaid balance or a monthly cap bounds what it spends, so that a request needs a part of a
    lease of money.
    """

    id: str
    limits: UsageLimits = NO_LIMITS
    zones: tuple[str, ...] = ()
    state: AccountState = AccountState.ACTIVE
    funded: bool = False
