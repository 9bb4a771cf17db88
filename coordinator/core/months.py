"""Months of billing: calendar months in UTC, and the moment at which each is closed.

A month is a text, "2026-02", or a number as usage books it, 202602. A local change of summer time
moves none of their edges.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from protos.domain.errors import InvalidRequest

_MONTH = re.compile(r"(2\d{3})-(0[1-9]|1[0-2])")
DAY_MS = 86_400_000


def month_of(unix_ms: int) -> str:
    """Return the month that an instant lies in: "2026-02"."""
    return f"{datetime.fromtimestamp(unix_ms // 1_000, UTC):%Y-%m}"


def year_of(unix_ms: int) -> int:
    """Return the year, in UTC, that an instant lies in."""
    return datetime.fromtimestamp(unix_ms // 1_000, UTC).year


def check_month(text: str) -> str:
    """Return ``text``. Raises: InvalidRequest if it is no month."""
    if _MONTH.fullmatch(text) is None:
        raise InvalidRequest(f"{text[:20]!a} is no month", "write it as YYYY-MM, such as 2026-02")
    return text


def month_start_unix_ms(month: str) -> int:
    """Return the first instant of a month."""
    year, number = int(month[:4]), int(month[5:])
    return int(datetime(year, number, 1, tzinfo=UTC).timestamp()) * 1_000


def next_month(month: str) -> str:
    """Return the month after ``month``."""
    year, number = int(month[:4]), int(month[5:])
    return f"{year + number // 12:04d}-{number % 12 + 1:02d}"


def month_end_unix_ms(month: str) -> int:
    """Return the first instant that is no longer of a month."""
    return month_start_unix_ms(next_month(month))


@dataclass(frozen=True, slots=True)
class ClosePolicy:
    """When a month is closed: ``grace_days`` after the start of day ``close_day`` of the next."""

    close_day: int = 1
    grace_days: int = 3
    #: An invoice is due so many days after it was issued.
    due_days: int = 14


def close_unix_ms(month: str, policy: ClosePolicy) -> int:
    """Return the earliest instant at which a month may be closed."""
    days = policy.close_day - 1 + policy.grace_days
    return month_end_unix_ms(month) + days * DAY_MS


def months_to_close(first: str, now_unix_ms: int, policy: ClosePolicy) -> list[str]:
    """Return the months, in order from ``first``, whose close has come by ``now_unix_ms``."""
    found = []
    month = first
    while close_unix_ms(month, policy) <= now_unix_ms:
        found.append(month)
        month = next_month(month)
    return found


def month_number_of(unix_ms: int) -> int:
    """Return the month that an instant lies in, as usage books it: 202602. Hot."""
    days = unix_ms // DAY_MS
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


def month_number_start_unix_ms(number: int) -> int:
    """Return the first instant of a month such as 202602."""
    return month_start_unix_ms(text_of_month(number))


def number_of_month(month: str) -> int:
    """Return a month as usage books it: 202602."""
    return int(month[:4]) * 100 + int(month[5:])


def text_of_month(number: int) -> str:
    """Return "2026-02" of 202602."""
    return f"{number // 100:04d}-{number % 100:02d}"
