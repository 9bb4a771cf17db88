"""A meter of usage in memory: what was reserved, recorded and said of each record, in order.

Records become durable when the test says so, or in the next turn of the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from protos.domain.errors import StorageFull
from protos.domain.resources import SlaTier
from protos.domain.usage_record import UsageCause, UsageRecord


@dataclass
class RecordingMeter:
    """Implements ``UsageMeter``. ``held``: records become durable by ``make_durable`` only."""

    held: bool = False
    full: bool = False
    reserved: int = 0
    records: list[UsageRecord] = field(default_factory=list)
    #: What was said of each record, by its number.
    ends: dict[int, UsageCause] = field(default_factory=dict)
    #: Account, deployment and SLA tier of each request that was shed.
    sheds: list[tuple[str, str, SlaTier]] = field(default_factory=list)
    _waiting: list[Callable[[], None]] = field(default_factory=list)

    def reserve(self) -> None:
        if self.full:
            raise StorageFull("no space for usage records", "free space on the disk")
        self.reserved += 1

    def release(self) -> None:
        assert self.reserved > 0, "nothing is reserved"
        self.reserved -= 1

    def record(self, record: UsageRecord, on_durable: Callable[[], None]) -> int:
        self.release()
        self.records.append(record)
        if self.held:
            self._waiting.append(on_durable)
        else:
            asyncio.get_running_loop().call_soon(on_durable)
        return len(self.records)

    def seen(self, number: int, cause: UsageCause) -> None:
        assert 1 <= number <= len(self.records), "no such record"
        assert number not in self.ends, "the end of a record is said once"
        self.ends[number] = cause

    def shed(self, account: str, deployment: str, model: str, sla_tier: SlaTier) -> None:
        self.sheds.append((account, deployment, sla_tier))

    def make_durable(self) -> None:
        """Let everything recorded so far be on disk."""
        waiting, self._waiting = self._waiting, []
        for on_durable in waiting:
            on_durable()

    @property
    def only(self) -> UsageRecord:
        """The one record that was made."""
        assert len(self.records) == 1, self.records
        return self.records[0]
