"""Errors for requests over a limit, and the values of rate-limit headers. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.errors import InsufficientQuota, LinkDown, RateLimited
from protos.domain.pricing import format_usd
from protos.domain.quota import RateState

if TYPE_CHECKING:
    from agent.core.money_leases import CostBound
    from agent.core.quota_lease import Lease
    from protos.domain.errors import EdgeForgeError

_MINUTE_MS = 60_000.0
_HINT = "send fewer at a time, or retry after the given time"


def rate_state(kind: str, limit: int, remaining: int, now_unix_ms: int) -> RateState:
    """Return the header values of a limit of which ``remaining`` is left. Hot."""
    reset_ms = (limit - remaining) * _MINUTE_MS / (limit or 1)
    return RateState(kind, limit, remaining, reset_ms, now_unix_ms + int(reset_ms))


def rate_refusal(
    owner: str, lease: Lease, amount: int, room: int, states: tuple[RateState, ...]
) -> RateLimited:
    """Return the refusal of a request that needs ``amount`` of a limit a minute.

    ``room``: what is left; below 0: owed.
    """
    wait_ms = (amount - room) / max(1, lease.limit) * _MINUTE_MS
    error = RateLimited(
        f"{owner} may use {lease.limit} {lease.name.kind} a minute, and has {max(0, room)} left",
        _HINT,
        retry_after_s=max(1.0, wait_ms / 1_000.0),
    )
    error.limited = states
    return error


def sequences_refusal(owner: str, lease: Lease, amount: int) -> RateLimited:
    """Return the refusal of a request of ``amount`` sequences."""
    if amount > lease.limit:
        return RateLimited(
            f"{owner} may have {lease.limit} sequences at once, and this request is {amount}",
            "ask for fewer answers and prompts in one request",
            retryable=False,
        )
    return RateLimited(
        f"{owner} may have {lease.limit} sequences at once, and has {lease.in_use} here",
        _HINT,
        retry_after_s=1.0,
    )


def money_refusal(
    account_id: str,
    lease: Lease,
    bound: CostBound | None,
    amount: int,
    now_mono_ms: float,
    *,
    asks: bool,
) -> EdgeForgeError:
    """Return the refusal of a request that may cost ``amount``.

    ``asks``: whether the coordinator can be asked for more.
    """
    if now_mono_ms >= lease.ends_mono_ms:
        return LinkDown(
            f"this site cannot learn now what is left of the balance of account {account_id}",
            "retry: another site may know it",
            retry_after_s=1.0,
        )
    remains = lease.limit
    if remains > 0 and amount <= remains and asks:
        return RateLimited(
            f"running requests of account {account_id} may use up what is left of its balance, "
            f"{format_usd(remains)} USD",
            "retry once they have ended, or send fewer at a time",
            retry_after_s=1.0,
        )
    cost = "" if amount == 0 else f", and this request may cost up to {format_usd(amount)} USD"
    fits = 0 if bound is None else bound.tokens_within(lease.granted - lease.in_use + lease.left)
    smaller = f", or send max_tokens of at most {fits}" if fits else ""
    return InsufficientQuota(
        f"account {account_id} has {format_usd(max(0, remains))} USD left to spend{cost}",
        f"add credit or raise its monthly cap{smaller}",
    )
