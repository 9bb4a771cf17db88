"""A meter that keeps records in memory, for tests of what asks it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from protos.domain.errors import StorageFull
from protos.domain.usage_record import UsageCause, UsageRecord


@dataclass
class KeptMeter:
    """Records are durable in the next turn of the loop, or when ``let_durable`` is called."""

    full: bool = False
    holds: bool = False
    reserved: int = 0
    records: list[UsageRecord] = field(default_factory=list)
    ends: dict[int, UsageCause] = field(default_factory=dict)
    shed_by: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    held: list[Callable[[], None]] = field(default_factory=list)

    def reserve(self) -> None:
        if self.full:
            raise StorageFull("no space for records of usage")
        self.reserved += 1

    def release(self) -> None:
        assert self.reserved > 0, "released more than was reserved"
        self.reserved -= 1

    def record(self, record: UsageRecord, on_durable: Callable[[], None]) -> int:
        assert self.reserved > 0, "a record without a reservation"
        self.reserved -= 1
        self.records.append(record)
        if self.holds:
            self.held.append(on_durable)
        else:
            asyncio.get_running_loop().call_soon(on_durable)
        return len(self.records)

    def let_durable(self) -> None:
        """The disk answers at last."""
        held, self.held = self.held, []
        for on_durable in held:
            on_durable()

    def seen(self, number: int, cause: UsageCause) -> None:
        assert number not in self.ends, "said twice"
        self.ends[number] = cause

    def shed(self, account: str, deployment: str, model: str, sla_tier: str) -> None:
        key = (account, deployment, model, sla_tier)
        self.shed_by[key] = self.shed_by.get(key, 0) + 1
