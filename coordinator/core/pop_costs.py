"""What a POP costs an hour, and what that makes over a time. Pure."""

from __future__ import annotations

from dataclasses import dataclass

HOUR_MS = 3_600_000
#: A hundred thousand dollars an hour is a mistyped one.
MAX_NANO_USD_PER_HOUR = 100_000 * 10**9
#: Changes that are kept, the newest ones.
MAX_CHANGES = 100


@dataclass(frozen=True, slots=True)
class CostChange:
    """From ``since_unix_ms`` on a POP costs so much."""

    since_unix_ms: int
    nano_usd_per_hour: int


@dataclass(frozen=True, slots=True)
class PopCost:
    """A POP's costs, oldest first."""

    pop_id: str
    changes: tuple[CostChange, ...]

    @property
    def now(self) -> CostChange:
        """The latest."""
        return self.changes[-1]


def with_change(present: PopCost | None, pop_id: str, change: CostChange) -> PopCost:
    """Return a POP's costs with one more; what was to follow it, by a clock ahead, is dropped."""
    kept = () if present is None else present.changes
    kept = tuple(one for one in kept if one.since_unix_ms < change.since_unix_ms)
    return PopCost(pop_id, (*kept, change)[-MAX_CHANGES:])


def cost_between(cost: PopCost, from_unix_ms: int, until_unix_ms: int) -> int:
    """Return the nano-USD of that time, rounded half up.

    The first cost counts for the time before it was set too: a POP did not run free until somebody
    wrote down its cost.
    """
    total = 0
    for number, change in enumerate(cost.changes):
        began = change.since_unix_ms if number else from_unix_ms
        last = number + 1 == len(cost.changes)
        ended = until_unix_ms if last else cost.changes[number + 1].since_unix_ms
        passed_ms = min(ended, until_unix_ms) - max(began, from_unix_ms)
        if passed_ms > 0:
            total += change.nano_usd_per_hour * passed_ms
    return (total + HOUR_MS // 2) // HOUR_MS
