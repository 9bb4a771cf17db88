"""What an account and a key may use at one agent: sequences at once, requests and tokens a minute.

The limits are columns of their rows in the routing table; 0: none. Each agent enforces the whole
limit by itself: an account that spreads its requests over ten agents gets up to ten times as much.
Pure token buckets: a minute's worth may be used at once, and refills evenly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.errors import RateLimited

if TYPE_CHECKING:
    from protos.domain.customers import Account, ApiKey, UsageLimits

_MINUTE_MS = 60_000.0
#: Accounts and keys whose use is remembered; those that use nothing are forgotten first.
MAX_HOLDERS = 65_536
_HINT = "send fewer at a time, or retry after the given time"


class Bucket:
    """A token bucket of one minute's worth. What was estimated too low is owed."""

    __slots__ = ("_at_mono_ms", "_left", "_limit")

    def __init__(self, limit: float, now_mono_ms: float) -> None:
        self._limit = limit
        self._left = limit
        self._at_mono_ms = now_mono_ms

    def wait_ms(self, amount: float, limit: float, now_mono_ms: float) -> float:
        """Return how long until ``amount`` may be taken; 0: now.

        More than a minute's worth may be taken when the bucket is full.
        """
        self._refill(limit, now_mono_ms)
        missing = min(amount, limit) - self._left
        return max(0.0, missing / limit * _MINUTE_MS)

    def take(self, amount: float) -> None:
        """Take ``amount``, or give back what is below 0."""
        self._left = min(self._limit, self._left - amount)

    def left(self) -> int:
        """Return what is left of it."""
        return max(0, int(self._left))

    def is_full(self, now_mono_ms: float) -> bool:
        """Whether nothing of it is in use."""
        self._refill(self._limit, now_mono_ms)
        return self._left >= self._limit

    def _refill(self, limit: float, now_mono_ms: float) -> None:
        passed_ms = max(0.0, now_mono_ms - self._at_mono_ms)
        if limit != self._limit:  # changed by the operator: what is used stays used
            self._left += limit - self._limit
            self._limit = limit
        self._left = min(limit, self._left + passed_ms * limit / _MINUTE_MS)
        self._at_mono_ms = now_mono_ms


class _Holder:
    """What one account or key uses."""

    __slots__ = ("requests", "sequences", "tokens")

    def __init__(self) -> None:
        self.sequences = 0
        self.requests: Bucket | None = None
        self.tokens: Bucket | None = None


@dataclass(slots=True)
class Use:
    """What one request was counted for, to be given back at its end."""

    holders: list[_Holder]
    sequences: int
    tokens: float


class AccountLimits:
    """Every account and key with a limit, as far as it uses anything now."""

    def __init__(self, max_holders: int = MAX_HOLDERS) -> None:
        self._max_holders = max_holders
        self._holders: dict[str, _Holder] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def begin(
        self, account: Account, key: ApiKey, sequences: int, tokens: float, now_mono_ms: float
    ) -> Use | None:
        """Count a request that is expected to use ``tokens``; None if nothing limits it. Hot.

        Raises: RateLimited; then nothing is counted.
        """
        if account.limits.unlimited and key.limits.unlimited:
            return None
        limited = [
            (name, limits, self._holder(name, now_mono_ms))
            for name, limits in (
                (f"account {account.id}", account.limits),
                (f"key {key.id}", key.limits),
            )
            if not limits.unlimited
        ]
        for name, limits, holder in limited:
            _check(name, limits, holder, sequences, tokens, now_mono_ms)
        for _, _, holder in limited:
            holder.sequences += sequences
            if holder.requests is not None:
                holder.requests.take(1.0)
            if holder.tokens is not None:
                holder.tokens.take(tokens)
        return Use([holder for _, _, holder in limited], sequences, tokens)

    def end(self, use: Use, tokens: float) -> None:
        """Count the end of a request that used ``tokens``."""
        for holder in use.holders:
            holder.sequences -= use.sequences
            if holder.tokens is not None:
                holder.tokens.take(tokens - use.tokens)

    def _holder(self, name: str, now_mono_ms: float) -> _Holder:
        holder = self._holders.get(name)
        if holder is None:
            if len(self._holders) >= self._max_holders:
                self._forget_idle(now_mono_ms)
            holder = self._holders[name] = _Holder()
        return holder

    def _forget_idle(self, now_mono_ms: float) -> None:
        """Forget those that use nothing; if all use something, the one known for longest."""
        kept = {
            name: one
            for name, one in self._holders.items()
            if one.sequences
            or not all(b is None or b.is_full(now_mono_ms) for b in (one.requests, one.tokens))
        }
        if len(kept) >= self._max_holders:
            del kept[next(iter(kept))]
        self._holders = kept


def _check(
    name: str,
    limits: UsageLimits,
    holder: _Holder,
    sequences: int,
    tokens: float,
    now_mono_ms: float,
) -> None:
    """Raises: RateLimited."""
    most = limits.max_concurrent_sequences
    if 0 < most < holder.sequences + sequences:
        raise RateLimited(
            f"{name} may have {most} sequences at once, and has {holder.sequences}",
            _HINT,
            retry_after_s=1.0,
        )
    if limits.requests_per_minute:
        if holder.requests is None:
            holder.requests = Bucket(float(limits.requests_per_minute), now_mono_ms)
        _check_bucket(
            name, "requests", limits.requests_per_minute, holder.requests, 1.0, now_mono_ms
        )
    else:
        holder.requests = None
    if limits.tokens_per_minute:
        if holder.tokens is None:
            holder.tokens = Bucket(float(limits.tokens_per_minute), now_mono_ms)
        _check_bucket(name, "tokens", limits.tokens_per_minute, holder.tokens, tokens, now_mono_ms)
    else:
        holder.tokens = None


def _check_bucket(
    name: str, what: str, limit: int, bucket: Bucket, amount: float, now_mono_ms: float
) -> None:
    wait_ms = bucket.wait_ms(amount, float(limit), now_mono_ms)
    if wait_ms > 0.0:
        error = RateLimited(
            f"{name} may use {limit} {what} a minute, and has {bucket.left()} left",
            _HINT,
            retry_after_s=max(1.0, wait_ms / 1_000.0),
        )
        error.limited = (what, limit, bucket.left())
        raise error
