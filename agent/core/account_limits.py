"""What an account and a key may use: sequences at once, requests and tokens a minute, money.

The limits hold over the whole fleet: this agent uses what it holds under leases (``quota_lease``),
and a request takes all that it needs in one step, or nothing. What cannot be had at once is asked
for: the request waits a moment for it, once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.limit_refusals import money_refusal, rate_refusal, rate_state, sequences_refusal
from agent.core.money_leases import NO_RECORD, UnsettledRecords
from agent.core.quota_calls import QuotaCalls
from agent.core.quota_lease import RETRY_MS
from agent.core.samples import Sample
from protos.domain.customers import AccountState
from protos.domain.errors import Forbidden, InsufficientQuota
from protos.domain.quota import QuotaKind, QuotaName

if TYPE_CHECKING:
    from agent.core.money_leases import CostBound
    from agent.core.quota_lease import Lease
    from agent.core.samples import Samples
    from protos.domain.customers import Account, ApiKey, UsageLimits
    from protos.domain.errors import EdgeForgeError
    from protos.domain.quota import RateState

#: Keys whose leases are at hand; further ones find theirs by name.
MAX_KEYS = 16_384
#: A request of more tokens than a part of the limit is admitted once that part is there; the rest
#: is owed.
_TOKENS_AT_ONCE = 2
_REQUESTS, _TOKENS, _SEQUENCES, _MONEY = range(4)
_INDEX = {
    QuotaKind.REQUESTS: _REQUESTS,
    QuotaKind.TOKENS: _TOKENS,
    QuotaKind.SEQUENCES: _SEQUENCES,
    QuotaKind.MONEY: _MONEY,
}


class LeaseWanted(Exception):
    """The request is to wait until the coordinator has been asked, and is then tried once more."""


class _Held:
    """The leases of one key and its account."""

    __slots__ = ("account", "key", "leases")

    def __init__(self, account: Account, key: ApiKey, leases: list[tuple[Lease, int]]) -> None:
        self.account = account
        self.key = key
        self.leases = leases


@dataclass(slots=True)
class Use:
    """What one request uses, to be given back at its end.

    ``record``: the number of its usage record in the spool, set once that is written.
    """

    leases: list[tuple[Lease, int]]
    amounts: tuple[int, int, int, int]
    nodes: int
    record: int = NO_RECORD

    def rates(self, now_mono_ms: float, now_unix_ms: int) -> tuple[RateState, ...]:
        """Return the rate-limit header values of the answer."""
        leases = [lease for lease, index in self.leases if index <= _TOKENS]
        return _rates(leases, self.nodes, now_mono_ms, now_unix_ms)


class AccountLimits:
    """The leases of this agent, as requests use them."""

    def __init__(self, calls: QuotaCalls | None = None) -> None:
        self.calls = QuotaCalls() if calls is None else calls
        self.unsettled = UnsettledRecords()
        #: Nodes in the table: without any contact this agent uses an even share of a limit.
        self.nodes = 1
        self._held: dict[bytes, _Held] = {}

    def check_head(self, account: Account, now_mono_ms: float) -> None:
        """Refuse what needs no look at the body: Hot.

        Raises: Forbidden for a suspended account; InsufficientQuota where nothing remains.
        """
        state = account.state
        if state is AccountState.SUSPENDED:
            raise Forbidden(
                f"account {account.id} is suspended",
                "settle its invoices, or ask the operator of this service",
                code="account_suspended",
            )
        if not account.funded:
            if state is AccountState.LIMITED:
                raise InsufficientQuota(
                    f"account {account.id} may not spend more until a late payment is settled",
                    "pay its open invoices, or add credit",
                )
            return
        lease = self.calls.known(QuotaName(QuotaKind.MONEY, account.id))
        if lease is not None and now_mono_ms < lease.ends_mono_ms and lease.limit <= 0:
            lease.used_mono_ms = now_mono_ms
            if now_mono_ms >= lease.asked_mono_ms + RETRY_MS:  # a top-up is learned soon
                self.calls.need(lease, urgent=False)
            raise money_refusal(account.id, lease, None, 0, now_mono_ms, asks=True)

    def begin(
        self,
        account: Account,
        key: ApiKey,
        sequences: int,
        tokens: float,
        now_mono_ms: float,
        *,
        bound: CostBound | None = None,
        may_wait: bool = False,
        now_unix_ms: int = 0,
    ) -> Use | None:
        """Count a request that is expected to use ``tokens``; None if nothing limits it. Hot.

        ``bound``: what it may cost, of a funded account.
        Raises: RateLimited, InsufficientQuota, LinkDown; LeaseWanted only if it ``may_wait``. Then
        nothing is counted.
        """
        if account.limits.unlimited and key.limits.unlimited and not account.funded:
            return None
        held = self._held.get(key.digest)
        if held is None or held.account is not account or held.key is not key:
            held = self._find(account, key, now_mono_ms)
        nano_usd = 0 if bound is None else bound.nano_usd
        amounts = (1, math.ceil(tokens), sequences, nano_usd)
        for lease, index in held.leases:
            lease.used_mono_ms = now_mono_ms
            if now_mono_ms >= lease.ends_mono_ms or lease.granted - lease.in_use < amounts[index]:
                leases = self._with_more(held, amounts, bound, may_wait, now_mono_ms, now_unix_ms)
                return Use(leases, amounts, self.nodes)
        for lease, index in held.leases:
            lease.take(amounts[index])
            if lease.granted - lease.in_use < lease.low:
                self.calls.need(lease, urgent=False)
        return Use(held.leases, amounts, self.nodes)

    def samples(self, now_mono_ms: float) -> Samples:
        """Yield how many leases there are, and since when the coordinator was not heard of them."""
        calls = self.calls
        answered = calls.answered_mono_ms
        age_ms = 0.0 if answered is None else now_mono_ms - answered
        yield Sample("edgeforge_quota_leases", "Limits of accounts and keys in use.", len(calls))
        yield Sample(
            "edgeforge_quota_cut_off",
            "1 while limits are used without the coordinator, by the latest shares.",
            float(calls.linked and not calls.can_ask),
        )
        yield Sample(
            "edgeforge_quota_age_seconds",
            "Since the coordinator last granted quota; it is asked only while a limit is in use.",
            age_ms / 1_000.0,
        )
        yield Sample(
            "edgeforge_quota_unsettled",
            "Billable requests whose records the coordinator has not counted, of funded accounts.",
            len(self.unsettled),
        )

    def status(self, now_mono_ms: float) -> dict[str, object]:
        """Return the same, for ``edgeforge-agent status``."""
        calls, answered = self.calls, self.calls.answered_mono_ms
        return {
            "quota": {
                "leases": len(calls),
                "cut_off": calls.linked and not calls.can_ask,
                "age_s": None if answered is None else (now_mono_ms - answered) / 1_000.0,
                "unsettled": len(self.unsettled),
            }
        }

    def end(self, use: Use, tokens: float, nano_usd: int = 0) -> None:
        """Count the end of a request that used ``tokens`` and costs ``nano_usd``."""
        for lease, index in use.leases:
            amount = use.amounts[index]
            if index == _TOKENS:
                lease.correct(math.ceil(tokens) - amount)
            elif index == _SEQUENCES:
                lease.release(amount)
            elif index == _MONEY:
                self.unsettled.ended(lease, amount, nano_usd, use.record)

    def _with_more(
        self,
        held: _Held,
        amounts: tuple[int, int, int, int],
        bound: CostBound | None,
        may_wait: bool,
        now_mono_ms: float,
        now_unix_ms: int,
    ) -> list[tuple[Lease, int]]:
        """Take what is needed where something is not at hand, or nothing of it.

        Raises: as ``begin``.
        """
        if not all(self.calls.knows(lease) for lease, _ in held.leases):
            held = self._find(held.account, held.key, now_mono_ms)
        wanted = False
        refusal: EdgeForgeError | None = None
        cut_off: list[Lease] = []
        for lease, index in held.leases:
            amount = amounts[index]
            if index == _TOKENS:
                amount = min(amount, max(1, lease.limit // _TOKENS_AT_ONCE))
            live = now_mono_ms < lease.ends_mono_ms
            if live and lease.granted - lease.in_use >= amount:
                continue
            if self._waits(lease, amount, may_wait, live, now_mono_ms):
                wanted = True
            elif not live and self._is_cut_off_with(lease, amount, now_mono_ms):
                cut_off.append(lease)
            elif refusal is None:
                refusal = self._refusal(held, lease, amount, bound, now_mono_ms, now_unix_ms)
        if refusal is not None:
            raise refusal
        if wanted:
            raise LeaseWanted
        for lease, index in held.leases:
            if lease in cut_off:
                lease.take_cut_off(amounts[index])
            else:
                lease.take(amounts[index])
        return held.leases

    def _waits(
        self, lease: Lease, amount: int, may_wait: bool, live: bool, now_mono_ms: float
    ) -> bool:
        """Whether the request waits for more of ``lease``, which is asked for in any case."""
        lease.wait(amount)
        calls = self.calls
        if live and now_mono_ms < lease.refused_until_mono_ms:
            return False  # asked a moment ago; what is missing is in the next ask
        waits = may_wait and calls.can_ask
        calls.need(lease, urgent=waits)
        return waits

    def _is_cut_off_with(self, lease: Lease, amount: int, now_mono_ms: float) -> bool:
        """Whether the coordinator cannot be asked, and the cut-off share has ``amount``."""
        if self.calls.can_ask:
            return False  # it answers, only not in time
        return lease.room_cut_off(self.nodes, now_mono_ms) >= amount

    def _refusal(
        self,
        held: _Held,
        lease: Lease,
        amount: int,
        bound: CostBound | None,
        now_mono_ms: float,
        now_unix_ms: int,
    ) -> EdgeForgeError:
        kind = lease.name.kind
        owner = f"key {held.key.id}" if lease.name.key_digest else f"account {held.account.id}"
        if kind is QuotaKind.MONEY:
            asks = self.calls.can_ask
            return money_refusal(held.account.id, lease, bound, amount, now_mono_ms, asks=asks)
        if kind is QuotaKind.SEQUENCES:
            return sequences_refusal(owner, lease, amount)
        lease.left = 0  # what others hold not, or may get first, is not there for this request
        leases = [one for one, _ in held.leases if one.is_rate]
        states = _rates(leases, self.nodes, now_mono_ms, now_unix_ms)
        room = lease.room(self.nodes, now_mono_ms)
        return rate_refusal(owner, lease, amount, room, states)

    def _find(self, account: Account, key: ApiKey, now_mono_ms: float) -> _Held:
        """Return the leases of ``key`` and ``account`` by their present limits."""
        leases = self._leases_of(account.limits, account.id, b"", now_mono_ms)
        leases += self._leases_of(key.limits, account.id, key.digest, now_mono_ms)
        if account.funded:
            name = QuotaName(QuotaKind.MONEY, account.id)
            leases.append((self.calls.lease(name, 0, now_mono_ms), _MONEY))
        if len(self._held) >= MAX_KEYS:
            self._held.clear()
        held = self._held[key.digest] = _Held(account, key, leases)
        return held

    def _leases_of(
        self, limits: UsageLimits, account_id: str, digest: bytes, now_mono_ms: float
    ) -> list[tuple[Lease, int]]:
        found = []
        for kind, limit in (
            (QuotaKind.REQUESTS, limits.requests_per_minute),
            (QuotaKind.TOKENS, limits.tokens_per_minute),
            (QuotaKind.SEQUENCES, limits.max_concurrent_sequences),
        ):
            if limit:
                name = QuotaName(kind, account_id, digest)
                lease = self.calls.lease(name, limit, now_mono_ms)
                lease.limit = limit
                lease.granted = min(lease.granted, limit)
                found.append((lease, _INDEX[kind]))
        return found


def _rates(
    leases: list[Lease], nodes: int, now_mono_ms: float, now_unix_ms: int
) -> tuple[RateState, ...]:
    """Return the states of ``leases``; of two of a kind the one with less left."""
    states: dict[str, RateState] = {}
    for lease in leases:
        remaining = max(0, min(lease.limit, lease.room(nodes, now_mono_ms)))
        kind = lease.name.kind.value
        known = states.get(kind)
        if known is None or remaining < known.remaining:
            states[kind] = rate_state(kind, lease.limit, remaining, now_unix_ms)
    return tuple(states.values())
