"""One quota of an account or a key, and the parts of it that agents hold. Pure.

Two laws, for whatever is lost, repeated, reordered or restarted:

- part (sequences, money): what agents in contact hold is never more in all than the capacity;
- rate (requests, tokens): what is left here and what agents hold is never more than one minute's
  worth, and grows only by the refill.

A share is counted from the most that its agent may hold: what it says that it holds, or what it was
granted since, until its next ask says which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.quota import LeaseGrant, QuotaKind, QuotaName

if TYPE_CHECKING:
    from protos.domain.quota import LeaseAsk

_MINUTE_MS = 60_000.0
#: Sums of fractions fall short of whole numbers by less.
_ROUNDING = 1e-6
#: A grant is at least this part of a rate, so that a newcomer's second request finds something.
_LEAST_PART_OF_RATE = 32
#: And of sequences or money.
_LEAST_PART = 64
#: One agent gets at most this part of the money that remains beyond what it uses: it may die.
MOST_PART_OF_MONEY = 8
#: What all agents that are cut off may spend together, as a part of what nobody held.
CUT_OFF_PART_OF_MONEY = 10
#: A cut-off agent serves no longer than its credentials are valid, 7 days.
_MAX_CUT_OFF_MS = 7 * 86_400_000.0


@dataclass(slots=True)
class _Share:
    """What one agent holds, at most.

    ``deficit``: what it wanted of a rate and did not get. What is refilled meanwhile is credited to
    those with a deficit by its size: ``credit``, and what came since ``credited_per_unit``.
    """

    node_id: str
    held: int = 0
    want: int = 0
    deficit: int = 0
    credit: float = 0.0
    credited_per_unit: float = 0.0
    cut_off: int = 0
    ends_mono_ms: float = 0.0
    #: Its lease has ended; only its cut-off share is counted.
    is_over: bool = False


class QuotaPool:
    """All shares of one quota."""

    __slots__ = (
        "_at_mono_ms",
        "_capacity",
        "_content",
        "_credited",
        "_credited_per_unit",
        "_cut_off",
        "_deficit",
        "_held",
        "_next_end_mono_ms",
        "_shares",
        "_want",
        "name",
    )

    def __init__(self, name: QuotaName, capacity: int, now_mono_ms: float, *, full: bool) -> None:
        """``full``: no agent can hold anything from before."""
        self.name = name
        self._capacity = capacity
        #: Of a rate: what is left.
        self._content = float(capacity) if full else 0.0
        self._at_mono_ms = now_mono_ms
        self._shares: dict[str, _Share] = {}
        self._next_end_mono_ms = math.inf
        #: Of the content, what is for those with a deficit; and what one unit of it has got so far.
        self._credited = self._credited_per_unit = 0.0
        self._held = self._want = self._deficit = self._cut_off = 0

    def __len__(self) -> int:
        return len(self._shares)

    def held(self) -> int:
        """Return the most that agents in contact may hold."""
        return self._held

    def advance(self, capacity: int, now_mono_ms: float) -> None:
        """Refill a rate, set the capacity, and end the leases whose time is over."""
        if now_mono_ms >= self._next_end_mono_ms:
            self._end_leases(now_mono_ms)
        if self.name.kind.is_rate:
            self._refill(now_mono_ms)
            self._content = min(self._content, float(capacity))
        self._capacity = capacity

    def is_idle(self, now_mono_ms: float) -> bool:
        """Whether a new pool would be the same."""
        self.advance(self._capacity, now_mono_ms)
        full = not self.name.kind.is_rate or self._content >= self._capacity
        return full and not self._shares

    def grant(
        self,
        holder: str,
        node_id: str,
        ask: LeaseAsk,
        ends_mono_ms: float,
        *,
        settling: bool,
        nodes: int = 0,
    ) -> LeaseGrant:
        """Grant what ``ask`` may have. ``settling``: unknown agents may hold some of it still.

        ``nodes`` of the fleet: sequences are granted up to an even share meanwhile; 0: not at all.
        """
        share = self._shares.get(holder)
        if share is None:
            share = _Share(node_id, credited_per_unit=self._credited_per_unit)
        is_rate = self.name.kind.is_rate
        granted = (
            self._grant_rate(share, ask, settling)
            if is_rate
            else self._grant_part(share, ask, settling, nodes)
        )
        cut_off = self._cut_off_share(share, ask, settling)
        if ask.want or ask.in_use or granted or share.cut_off:
            share.ends_mono_ms, share.is_over = ends_mono_ms, False
            self._shares[holder] = share
            self._next_end_mono_ms = min(self._next_end_mono_ms, ends_mono_ms)
        else:
            self._shares.pop(holder, None)
        uncredited = math.floor(self._content - self._credited)
        left = uncredited if is_rate else self._capacity - self._held
        return LeaseGrant(self.name, granted, self._capacity, max(0, left), cut_off)

    def _grant_rate(self, share: _Share, ask: LeaseAsk, settling: bool) -> int:
        known = self._capacity if settling and not share.ends_mono_ms else share.held
        held = min(ask.held, max(0, known))
        want = max(ask.want, ask.need)
        if want:
            want = min(max(want, -(-self._capacity // _LEAST_PART_OF_RATE)), self._capacity)
        deficit = max(0, want - held)
        credit = self._credit_of(share)
        free = max(0.0, self._content - self._credited)
        most = min(self._content, credit + free)
        added = max(0, min(deficit, math.floor(most + _ROUNDING)))
        self._content = max(0.0, self._content - added)
        if deficit > added:
            share.credit = max(0.0, credit - added)
        else:
            share.credit = 0.0
        self._credited = max(0.0, self._credited - credit + share.credit)
        self._set(share, held=held + added, want=want, deficit=deficit - added)
        return held + added

    def _credit_of(self, share: _Share) -> float:
        """Return what has been refilled for ``share``."""
        since = self._credited_per_unit - share.credited_per_unit
        share.credit += since * share.deficit
        share.credited_per_unit = self._credited_per_unit
        return share.credit

    def _grant_part(self, share: _Share, ask: LeaseAsk, settling: bool, nodes: int) -> int:
        capacity, in_use = self._capacity, ask.in_use
        is_new = not share.ends_mono_ms or share.is_over
        known = max(0, capacity) if settling and is_new else share.held
        held = max(in_use, min(ask.held, known))
        want = max(ask.want, ask.need, in_use)
        if want > in_use:
            want = max(want, in_use + max(0, capacity) // _LEAST_PART)
        if self.name.kind is QuotaKind.MONEY:
            want = min(want, max(ask.need, in_use + max(0, capacity) // MOST_PART_OF_MONEY))
        total = self._want - share.want + want
        fair = want
        if total > capacity:
            fair = max(0, capacity) * want // max(1, total)
            fair += in_use <= fair  # what is left of whole numbers goes round
        free = capacity - (self._held - share.held)
        if settling:
            # What an agent without contact may use of it, too: a restart refuses nobody.
            even = max(1, capacity // nodes) if nodes and self.name.kind.may_double else 0
            free = min(free, max(held, even))
        if self.name.kind is QuotaKind.MONEY or not in_use:
            fair = max(fair, ask.least)  # else a large request would never be admitted
        granted = min(want, fair, free)
        if granted < ask.least:
            # Too little for what waits: others may need it. An agent that uses more than its fair
            # part admits nothing until enough of its requests have ended.
            granted = max(0, min(in_use, granted))
        self._set(share, held=max(held, granted), want=want, deficit=0)
        return granted

    def _cut_off_share(self, share: _Share, ask: LeaseAsk, settling: bool) -> int:
        """Return what the agent may use without contact, and count it."""
        most = max(0, self._capacity)
        if self.name.kind is QuotaKind.MONEY:
            most = max(0, self._capacity - self._held) // CUT_OFF_PART_OF_MONEY
        others = self._cut_off - share.cut_off
        given = min(most * share.want // max(1, self._want), max(0, most - others))
        if settling:
            given = min(given, ask.cut_off)
        counted = max(given, min(ask.cut_off, max(share.cut_off, most)))
        self._cut_off += counted - share.cut_off
        share.cut_off = counted
        return given

    def _set(self, share: _Share, *, held: int, want: int, deficit: int) -> None:
        # A debt of one agent is no room for another.
        self._held += max(0, held) - max(0, share.held)
        self._want += want - share.want
        self._deficit += deficit - share.deficit
        share.held, share.want, share.deficit = held, want, deficit

    def _refill(self, now_mono_ms: float) -> None:
        passed_ms = max(0.0, now_mono_ms - self._at_mono_ms)
        self._at_mono_ms = max(now_mono_ms, self._at_mono_ms)
        room = max(0.0, self._capacity - self._held - self._content)
        refilled = min(room, passed_ms * self._capacity / _MINUTE_MS)
        self._content += refilled
        if self._deficit:
            self._credited += refilled
            self._credited_per_unit += refilled / self._deficit

    def _end_leases(self, now_mono_ms: float) -> None:
        """End leases. Of money, what a cut-off agent may still spend remains counted."""
        present = {
            one.node_id: 0 for one in self._shares.values() if one.ends_mono_ms > now_mono_ms
        }
        self._next_end_mono_ms = math.inf
        for holder, share in list(self._shares.items()):
            if not share.is_over and share.ends_mono_ms <= now_mono_ms:
                self._credited = max(0.0, self._credited - self._credit_of(share))
                self._set(share, held=0, want=0, deficit=0)
                share.credit, share.is_over = 0.0, True
            if share.is_over and (
                self.name.kind is not QuotaKind.MONEY
                or not share.cut_off
                or share.node_id in present  # another run of the same agent: this one has ended
                or now_mono_ms - share.ends_mono_ms >= _MAX_CUT_OFF_MS
            ):
                self._cut_off -= share.cut_off
                del self._shares[holder]
                continue
            ends = share.ends_mono_ms + (_MAX_CUT_OFF_MS if share.is_over else 0.0)
            self._next_end_mono_ms = min(self._next_end_mono_ms, ends)
