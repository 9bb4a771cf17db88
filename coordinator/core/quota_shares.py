"""The shares of all quotas that agents hold over the fleet. Pure; in memory only.

A restart begins another epoch: what agents say that they hold is honoured, and before leases of the
epoch before have ended nothing new of money is granted, and of sequences an even share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.core.quota_pool import QuotaPool
from protos.domain.errors import Conflict, Overloaded
from protos.domain.quota import (
    LEASE_MARGIN_MS,
    LEASE_MS,
    RENEW_MS,
    LeaseAnswer,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from protos.domain.quota import LeaseCall, QuotaName

#: Quotas in use at once; those that nobody uses are forgotten before.
MAX_POOLS = 100_000
#: Leases that end are looked for this often.
_SWEEP_MS = 30_000.0


@dataclass(slots=True)
class _Caller:
    """One run of an agent: its latest call."""

    seq: int
    at_mono_ms: float


class QuotaShares:
    """Hands out leases. One call at a time; costs a few microseconds an ask."""

    def __init__(self, epoch: int, now_mono_ms: float, *, lease_ms: float = LEASE_MS) -> None:
        """``epoch``: another one after each start of the coordinator."""
        self.epoch = epoch
        self._lease_ms = lease_ms
        self._settled_mono_ms = now_mono_ms + lease_ms + LEASE_MARGIN_MS
        self._pools: dict[QuotaName, QuotaPool] = {}
        self._callers: dict[str, _Caller] = {}
        self._swept_mono_ms = now_mono_ms

    def __len__(self) -> int:
        return len(self._pools)

    def handle(
        self,
        node_id: str,
        call: LeaseCall,
        capacity_of: Callable[[QuotaName], int | None],
        was_there: Callable[[QuotaName], bool],
        now_mono_ms: float,
        *,
        nodes: int = 0,
    ) -> LeaseAnswer:
        """Return the grants for ``call``; ``nodes``: of the fleet.

        ``was_there``: whether a quota existed when this run of the coordinator began, so that
        agents may hold some of it from the run before.

        ``capacity_of`` returns the fleet's limit, or what remains of money (``MAX_AMOUNT``: no
        bound, below 0: overdrawn); None for what does not exist or has no limit.
        Raises: Conflict for a call that a later one has overtaken; Overloaded.
        """
        holder = f"{node_id}/{call.boot_id}"
        caller = self._callers.get(holder)
        if caller is not None and call.seq <= caller.seq:
            raise Conflict("a later call of this agent has been handled", retryable=False)
        self._sweep(now_mono_ms)
        self._callers[holder] = _Caller(call.seq, now_mono_ms)
        settling = now_mono_ms < self._settled_mono_ms
        grants = []
        for ask in call.asks:
            capacity = capacity_of(ask.name)
            if capacity is not None:
                waits = settling and was_there(ask.name)
                pool = self._pool(ask.name, capacity, now_mono_ms, settling=waits)
                ends_mono_ms = now_mono_ms + self._lease_ms + LEASE_MARGIN_MS
                grants.append(
                    pool.grant(holder, node_id, ask, ends_mono_ms, settling=waits, nodes=nodes)
                )
        return LeaseAnswer(
            epoch=self.epoch,
            seq=call.seq,
            lease_ms=self._lease_ms,
            renew_ms=min(RENEW_MS, self._lease_ms / 3.0),
            settling_ms=max(0.0, self._settled_mono_ms - now_mono_ms),
            grants=tuple(grants),
        )

    def is_settled(self, now_mono_ms: float) -> bool:
        """Whether all leases of an earlier run have ended."""
        return now_mono_ms >= self._settled_mono_ms

    def held(self, name: QuotaName) -> int:
        """Return the most of a quota that agents in contact may hold."""
        pool = self._pools.get(name)
        return 0 if pool is None else pool.held()

    def _pool(
        self, name: QuotaName, capacity: int, now_mono_ms: float, *, settling: bool
    ) -> QuotaPool:
        """Return the pool of ``name`` as it is now. Raises: Overloaded."""
        pool = self._pools.get(name)
        if pool is None:
            if len(self._pools) >= MAX_POOLS:
                raise Overloaded("too many limits are in use at once", retry_after_s=1.0)
            full = name.kind.may_double or not settling
            pool = self._pools[name] = QuotaPool(name, capacity, now_mono_ms, full=full)
        pool.advance(capacity, now_mono_ms)
        return pool

    def _sweep(self, now_mono_ms: float) -> None:
        """Forget quotas that nobody holds, and runs of agents that have ended."""
        if now_mono_ms - self._swept_mono_ms < _SWEEP_MS and len(self._pools) < MAX_POOLS:
            return
        self._swept_mono_ms = now_mono_ms
        self._pools = {
            name: pool for name, pool in self._pools.items() if not pool.is_idle(now_mono_ms)
        }
        oldest_mono_ms = now_mono_ms - 2.0 * (self._lease_ms + LEASE_MARGIN_MS)
        self._callers = {
            holder: one for holder, one in self._callers.items() if one.at_mono_ms >= oldest_mono_ms
        }
