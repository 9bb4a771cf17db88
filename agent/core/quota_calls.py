"""When this agent asks the coordinator for quota, and what for: many quotas in one call. Pure.

A request that waits is asked for at once; what is running low soon; everything held is renewed
before its end. One call at a time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from agent.core.quota_lease import RETRY_MS, Lease
from protos.domain.quota import MAX_ASKS, RENEW_MS, LeaseCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from protos.domain.quota import LeaseAnswer, LeaseAsk, QuotaName

#: Quotas that are remembered; those that are not used are forgotten before.
MAX_LEASES = 65_536
#: Shortest time between two calls for requests that wait, and for what runs low.
URGENT_GAP_MS = 20.0
_LOW_GAP_MS = 200.0
#: After so many calls without an answer the agent is cut off.
_CUT_OFF_FAILURES = 2


class QuotaCalls:
    """All leases of this agent, in the order of their latest asks."""

    def __init__(self, boot_id: str = "") -> None:
        self.boot_id = boot_id
        self._failures = 0
        #: When the coordinator last answered.
        self.answered_mono_ms: float | None = None
        #: Whether something asks the coordinator at all.
        self.linked = False
        #: Called when a request waits, or something runs low.
        self.wake: Callable[[], None] = _nothing
        self.epoch = 0
        self._leases: dict[QuotaName, Lease] = {}
        self._soon: dict[QuotaName, Lease] = {}
        self._urgent = False
        self._seq = 0
        self._called_mono_ms = -math.inf
        self._renew_ms = RENEW_MS
        self._asked: dict[QuotaName, LeaseAsk] = {}

    def __len__(self) -> int:
        return len(self._leases)

    def lease(self, name: QuotaName, limit: int, now_mono_ms: float) -> Lease:
        """Return the lease of ``name``, without a grant if it is new."""
        lease = self._leases.get(name)
        if lease is None:
            if len(self._leases) >= MAX_LEASES:
                self._forget_idle(now_mono_ms)
            lease = self._leases[name] = Lease(name, limit, now_mono_ms)
            self.need(lease, urgent=False)
        return lease

    @property
    def can_ask(self) -> bool:
        """Whether the coordinator is likely to answer soon."""
        return self.linked and self._failures < _CUT_OFF_FAILURES

    def known(self, name: QuotaName) -> Lease | None:
        """Return the lease of ``name``, if there is one."""
        return self._leases.get(name)

    def knows(self, lease: Lease) -> bool:
        """Whether ``lease`` has not been forgotten."""
        return self._leases.get(lease.name) is lease

    def need(self, lease: Lease, *, urgent: bool) -> None:
        """Ask for more of ``lease`` soon; ``urgent``: a request waits."""
        if not self.linked:
            return
        if lease.name not in self._soon or (urgent and not self._urgent):
            self._soon[lease.name] = lease
            self._urgent = self._urgent or urgent
            self.wake()

    def next_call_mono_ms(self) -> float:
        """Return when to call; infinite while nothing is held or waited for."""
        due = math.inf
        if self._soon:
            due = self._called_mono_ms + (URGENT_GAP_MS if self._urgent else _LOW_GAP_MS)
        if self._leases:
            oldest = next(iter(self._leases.values()))
            due = min(due, max(oldest.asked_mono_ms, 0.0) + self._renew_ms)
        return due

    def call(self, now_mono_ms: float) -> LeaseCall:
        """Return the call to make now, of what is needed and of what is to be renewed."""
        chosen = dict(list(self._soon.items())[:MAX_ASKS])
        renew_mono_ms = now_mono_ms - self._renew_ms * 0.8  # with others that are due soon
        for name, lease in self._leases.items():
            if len(chosen) >= MAX_ASKS or lease.asked_mono_ms > renew_mono_ms:
                break
            chosen[name] = lease
        for name, lease in chosen.items():
            self._soon.pop(name, None)
            self._leases.pop(name, None)
            self._leases[name] = lease
        self._urgent = bool(self._soon) and self._urgent
        self._seq += 1
        self._called_mono_ms = now_mono_ms
        self._asked = {name: lease.ask(now_mono_ms) for name, lease in chosen.items()}
        return LeaseCall(self.boot_id, self._seq, tuple(self._asked.values()))

    def answered(self, answer: LeaseAnswer, now_mono_ms: float) -> None:
        """Hold what is granted. What is answered late, for an earlier call, is ignored."""
        if answer.seq != self._seq:
            return
        self._failures = 0
        self.answered_mono_ms = now_mono_ms
        self.epoch = answer.epoch
        self._renew_ms = answer.renew_ms
        ends_mono_ms = self._called_mono_ms + answer.lease_ms
        asked, self._asked = self._asked, {}
        for grant in answer.grants:
            lease, ask = self._leases.get(grant.name), asked.pop(grant.name, None)
            if lease is None or ask is None:
                continue
            lease.set(grant, ask, ends_mono_ms)
            if grant.granted < ask.least and answer.settling_ms:
                lease.refused_until_mono_ms = now_mono_ms + min(answer.settling_ms, RETRY_MS)
            if grant.granted < ask.held:
                self.need(lease, urgent=False)  # others get it once the coordinator knows
            if not ask.want and not ask.in_use and lease.is_idle(now_mono_ms):
                del self._leases[grant.name]
        for name in asked:  # not there any more, or without a limit now
            if (gone := self._leases.get(name)) is not None and not gone.in_use:
                del self._leases[name]

    def failed(self) -> None:
        """The coordinator did not answer the latest call."""
        self._failures += 1
        self._asked = {}

    def _forget_idle(self, now_mono_ms: float) -> None:
        """Forget those that are not used; if all are, the one asked for longest ago."""
        kept = {name: one for name, one in self._leases.items() if not one.is_idle(now_mono_ms)}
        if len(kept) >= MAX_LEASES:
            del kept[next(iter(kept))]
        self._leases = kept


def _nothing() -> None:
    return None
