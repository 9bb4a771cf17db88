"""What this agent holds of one quota of an account or a key, under a lease. Pure.

The lease ends by this agent's clock, counted from before its ask was sent. After its end, or where
the coordinator cannot be asked, the agent uses its cut-off share (docs/decisions/0060).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from agent.core.rate_bucket import RateBucket
from protos.domain.quota import MAX_AMOUNT, LeaseAsk, QuotaKind

if TYPE_CHECKING:
    from protos.domain.quota import LeaseGrant, QuotaName

#: An agent asks for what it uses in this time.
_AHEAD_S = 4.0
#: How much of the latest rate of use is believed.
_NEW_WEIGHT = 0.5
#: After this long without use and without anything in use, what is held is given back.
IDLE_MS = 20_000.0
#: What was refused is asked for again after this.
RETRY_MS = 1_000.0
#: It is asked for more once less than this part of the latest grant is left.
_LOW_PART = 3


class Lease:
    """One quota. ``granted`` is all that may be used, ``in_use`` included."""

    __slots__ = (
        "_bucket",
        "_drawn",
        "_least",
        "_peak",
        "_per_s",
        "_spent_end_mono_ms",
        "_taken",
        "_waiting",
        "asked_mono_ms",
        "cut_off",
        "ends_mono_ms",
        "granted",
        "in_use",
        "is_rate",
        "left",
        "limit",
        "low",
        "name",
        "refused_until_mono_ms",
        "used_mono_ms",
    )

    def __init__(self, name: QuotaName, limit: int, now_mono_ms: float) -> None:
        self.name = name
        self.is_rate = name.kind.is_rate
        #: Of the fleet; of money: what remained at the latest grant.
        self.limit = limit
        self.granted = 0
        self.in_use = 0
        self.ends_mono_ms = 0.0
        #: See ``LeaseGrant``; -1: never had contact.
        self.cut_off = -1
        #: What no agent held at the latest grant.
        self.left = limit
        #: Below this more is asked for.
        self.low = 0
        #: What does not fit is refused at once until then: the coordinator has no more.
        self.refused_until_mono_ms = 0.0
        self.asked_mono_ms = -math.inf
        self.used_mono_ms = now_mono_ms
        #: By how much ``granted`` fell since the latest ask, which did not tell it.
        self._drawn = 0
        self._taken = 0
        self._peak = 0
        self._per_s = 0.0
        self._waiting = 0
        self._least = 0
        self._bucket: RateBucket | None = None
        #: The end of the lease after which the cut-off share of money was taken.
        self._spent_end_mono_ms = 0.0

    # -- use -----------------------------------------------------------------------------------

    def take(self, amount: int) -> None:
        """Use ``amount`` of what is granted. Hot."""
        self._taken += amount
        if self.is_rate:
            self.granted -= amount
            self._drawn += amount
        else:
            self.in_use += amount
            self._peak = max(self._peak, self.in_use)

    def draw(self, amount: int) -> None:
        """Count ``amount`` as used up for good; below 0: it was not used after all."""
        self.granted -= amount
        self._drawn += amount

    def correct(self, amount: int) -> None:
        """Count that a request used ``amount`` more than was expected; below 0: less."""
        if self._bucket is not None:
            self._bucket.take(amount)
        else:
            self.draw(amount)

    def room(self, nodes: int, now_mono_ms: float) -> int:
        """Return what is likely left of it in the fleet; below 0: owed."""
        if now_mono_ms < self.ends_mono_ms:
            return self.granted - self.in_use + self.left
        return self.room_cut_off(nodes, now_mono_ms)

    def release(self, amount: int) -> None:
        """No longer use ``amount``."""
        self.in_use -= amount

    def wait(self, amount: int) -> None:
        """Ask for ``amount`` more with the next call."""
        most = MAX_AMOUNT if self.name.kind is QuotaKind.MONEY else max(self.limit, amount)
        self._waiting = min(self._waiting + amount, most)
        self._least = amount if not self._least else min(self._least, amount)

    @property
    def is_waited_for(self) -> bool:
        """Whether a request could not get enough since the latest ask."""
        return self._waiting > 0

    def is_idle(self, now_mono_ms: float) -> bool:
        """Whether nothing has been used for long, and nothing is in use."""
        return not self.in_use and now_mono_ms - self.used_mono_ms >= IDLE_MS

    # -- without contact -----------------------------------------------------------------------

    def room_cut_off(self, nodes: int, now_mono_ms: float) -> int:
        """Return what may be used after the lease's end; ``nodes`` of the fleet.

        Money: what the latest grant allowed, once. Others: the latest share, or an even one.
        """
        if self.name.kind is QuotaKind.MONEY:
            if self._spent_end_mono_ms != self.ends_mono_ms:
                self._spent_end_mono_ms = self.ends_mono_ms
                self.granted = self.in_use + max(0, self.cut_off)
                self.cut_off = 0
            return self.granted - self.in_use
        share = max(self.cut_off, self.limit // max(1, nodes))
        if not self.is_rate:
            return share - self.in_use
        bucket = self._bucket
        if bucket is None or bucket.limit != share:
            spent = 0.0 if bucket is None else bucket.limit - bucket.left(now_mono_ms)
            bucket = self._bucket = RateBucket(float(share), now_mono_ms)
            bucket.take(spent)
        return math.floor(bucket.left(now_mono_ms))

    def take_cut_off(self, amount: int) -> None:
        """Use ``amount`` after the lease's end."""
        if self.is_rate:
            assert self._bucket is not None
            self._bucket.take(amount)
        else:
            self.take(amount)

    # -- asks and grants -----------------------------------------------------------------------

    def ask(self, now_mono_ms: float) -> LeaseAsk:
        """Return what to ask for now; the next grant answers it."""
        passed_s = min(60.0, max(0.05, (now_mono_ms - self.asked_mono_ms) / 1_000.0))
        self._per_s += _NEW_WEIGHT * (self._taken / passed_s - self._per_s)
        idle = self.is_idle(now_mono_ms) and not self._waiting
        ahead = 0 if idle else self._waiting + self._ahead()
        live = now_mono_ms < self.ends_mono_ms
        rate = self.is_rate
        held = self.granted if live or (rate and self.granted < 0) else self.in_use
        base = 0 if rate else self.in_use
        asked = LeaseAsk(
            name=self.name,
            held=min(held, base) if idle else held,
            in_use=self.in_use,
            least=base + self._least if self._least else 0,
            need=base + self._waiting if self._least else 0,
            want=base + ahead,
            cut_off=0 if idle else max(0, self.cut_off),
        )
        if idle:
            self.granted, self.cut_off = min(self.granted, base), 0
        self.asked_mono_ms = now_mono_ms
        self._drawn = self._taken = self._waiting = self._least = 0
        self._peak = self.in_use
        return asked

    def _ahead(self) -> int:
        """Return what is likely to be needed until the next grant."""
        if self.name.kind is QuotaKind.SEQUENCES:
            return max(1, self._peak - self.in_use, self._peak // 2)
        return math.ceil(self._per_s * _AHEAD_S)

    def set(self, grant: LeaseGrant, asked: LeaseAsk, ends_mono_ms: float) -> None:
        """Hold what is granted: an amount that is set, less what was used up since the ask."""
        self.granted = grant.granted - self._drawn
        self.limit, self.left, self.cut_off = grant.limit, grant.left, grant.cut_off
        self.ends_mono_ms = ends_mono_ms
        self._bucket = None
        room = grant.granted - asked.in_use
        self.low = max(0, room) // _LOW_PART
        if grant.granted < asked.least:
            self.refused_until_mono_ms = self.asked_mono_ms + RETRY_MS
        else:
            self.refused_until_mono_ms = 0.0
