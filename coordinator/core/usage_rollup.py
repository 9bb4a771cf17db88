"""Adds up usage records by minute, and says which month bills them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from coordinator.core.months import month_number_of
from protos.domain.usage_record import UsageKey, UsageRecord, UsageSums, add_record, key_of


class UsageDelta(NamedTuple):
    """What one commit adds to the sums of ``key``.

    ``booked_month``, such as 202611, is the month that bills it: that of the minute, or the first
    month that is not closed yet for late records, which adjust it.
    """

    key: UsageKey
    sums: UsageSums
    booked_month: int


def booked_month(began_unix_ms: int, closed_through_unix_ms: int) -> int:
    """Return the month that bills what began then; months before ``closed_through`` are closed."""
    return month_number_of(max(began_unix_ms, closed_through_unix_ms))


def roll_up(records: Iterable[UsageRecord], closed_through_unix_ms: int) -> list[UsageDelta]:
    """Return the sums of ``records`` by key, in the order of their first records."""
    sums_of: dict[UsageKey, UsageSums] = {}
    for record in records:
        key = key_of(record)
        sums = sums_of.get(key)
        if sums is None:
            sums = sums_of[key] = UsageSums()
        add_record(sums, record)
    return [
        UsageDelta(key, sums, booked_month(key.minute_unix_ms, closed_through_unix_ms))
        for key, sums in sums_of.items()
    ]
