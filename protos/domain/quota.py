"""Leases of quota: what an agent asks the coordinator for, and what it gets.

Every limit of an account or a key holds over the whole fleet. An agent may use only what it holds
under a lease. Each ask says how much the agent holds; each grant *sets* that amount, so that a
message that is lost, sent twice or late cannot add to it.

- REQUESTS and TOKENS: an amount out of a bucket that refills by the limit a minute, and that use
  consumes.
- SEQUENCES and MONEY: a part of the limit, or of what remains of the balance. What is in use counts
  against it; money is in use from the admission until the coordinator has counted its record.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

#: Most asks in one call, so that one agent cannot occupy the coordinator.
MAX_ASKS = 2_048
#: How long a lease lasts, from before the agent sent its ask.
LEASE_MS = 10_000.0
#: The coordinator counts a lease for longer than its agent does, so that the agent always stops
#: first: clocks may run 10 % apart.
LEASE_MARGIN_MS = 1_000.0
#: How often a lease is renewed: no change of a limit or of a balance is unknown to a connected
#: agent for longer.
RENEW_MS = 3_000.0
#: No amount is larger.
MAX_AMOUNT = (1 << 62) - 1


class QuotaKind(enum.StrEnum):
    """What a lease is of."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    SEQUENCES = "sequences"
    MONEY = "money"

    @property
    def is_rate(self) -> bool:
        """Whether it refills every minute, and use consumes it."""
        return self is QuotaKind.REQUESTS or self is QuotaKind.TOKENS

    @property
    def may_double(self) -> bool:
        """Whether a restart of the coordinator may let twice the limit be used for a moment."""
        return self is not QuotaKind.MONEY


@dataclass(frozen=True, slots=True)
class QuotaName:
    """Whose quota of what: of the account if ``key_digest`` is empty."""

    kind: QuotaKind
    account_id: str
    key_digest: bytes = b""


@dataclass(frozen=True, slots=True)
class LeaseAsk:
    """What an agent holds of one quota, and would like to hold.

    All amounts are what it holds in all, ``in_use`` included: with ``least`` one of the requests
    that wait would be admitted, with ``need`` all of them, and ``want`` it would like to hold.
    ``cut_off``: as the latest grant that it has received.
    """

    name: QuotaName
    held: int
    in_use: int
    least: int
    need: int
    want: int
    cut_off: int = 0


@dataclass(frozen=True, slots=True)
class LeaseGrant:
    """What an agent holds from now on, instead of the ``held`` of its ask.

    ``limit``: of the fleet; for money what remains, ``MAX_AMOUNT`` without a bound. ``left``: what
    nobody holds. ``cut_off``: what it may use after the lease has ended without contact: requests
    and tokens a minute, sequences at once, nano-USD in all.
    """

    name: QuotaName
    granted: int
    limit: int
    left: int
    cut_off: int


@dataclass(frozen=True, slots=True)
class LeaseCall:
    """All that an agent asks for at once. ``boot_id`` is another one in each run of the agent.

    ``seq`` rises with every call of a run: a call that arrives late changes nothing.
    """

    boot_id: str
    seq: int
    asks: tuple[LeaseAsk, ...]


@dataclass(frozen=True, slots=True)
class LeaseAnswer:
    """The grants of a call; what does not exist any longer is left out.

    ``epoch`` identifies the run of the coordinator; it grants nothing new for ``settling_ms``,
    until leases of an earlier run have ended.
    """

    epoch: int
    seq: int
    lease_ms: float
    renew_ms: float
    settling_ms: float
    grants: tuple[LeaseGrant, ...]


@dataclass(slots=True)
class RateState:
    """What clients are told of a limit a minute: ``kind`` is "requests" or "tokens".

    Not frozen because it is hot.

    ``reset_ms``: until all of it is there again, which is at ``reset_unix_ms``.
    """

    kind: str
    limit: int
    remaining: int
    reset_ms: float
    reset_unix_ms: int
