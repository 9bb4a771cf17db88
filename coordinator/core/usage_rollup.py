"""Adds up usage records by minute, and says which month bills them."""

from __future__ import annotations

import calendar
from collections.abc import Iterable
from typing import NamedTuple

from protos.domain.usage_record import UsageKey, UsageRecord, UsageSums, add_record, key_of

_DAY_MS = 86_400_000


class UsageDelta(NamedTuple):
    """What one commit adds to the sums of ``key``.

    ``booked_month``, such as 202611, is the month that bills it: that of the minute, or the first
    month that is not closed yet for late records, which adjust it.
    """

    key: UsageKey
    sums: UsageSums
    booked_month: int


def month_of(unix_ms: int) -> int:
    """Return the month, UTC, as a number such as 202611."""
    days = unix_ms // _DAY_MS
    # Civil from days, for the proleptic Gregorian calendar; an era is 400 years.
    # Source: H. Hinnant, "chrono-compatible low-level date algorithms".
    shifted = days + 719_468
    era, day_of_era = divmod(shifted, 146_097)
    year_of_era = (
        day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * day_of_year + 2) // 153
    month = month + 3 if month < 10 else month - 9
    return (year_of_era + era * 400 + (month <= 2)) * 100 + month


def month_began_unix_ms(month: int) -> int:
    """Return the start of a month such as 202611."""
    year, number = divmod(month, 100)
    return calendar.timegm((year, number, 1, 0, 0, 0)) * 1_000


def booked_month(began_unix_ms: int, closed_through_unix_ms: int) -> int:
    """Return the month that bills what began then; months before ``closed_through`` are closed."""
    return month_of(max(began_unix_ms, closed_through_unix_ms))


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
