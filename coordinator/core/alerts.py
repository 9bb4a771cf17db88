"""Alerts on what is spent: at each threshold of a cap or a balance, once a period."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

THRESHOLDS_PERCENT = (50, 80, 100)

#: Pauses before further attempts to deliver; after the last one it is given up.
RETRY_S = (10, 60, 300, 1_800, 7_200, 21_600, 43_200)


@dataclass(frozen=True, slots=True)
class Spending:
    """What an account has spent in a period, of what it may.

    ``basis`` is "cap" or "balance", ``period`` the month.
    """

    basis: str
    period: str
    spent_nano_usd: int
    limit_nano_usd: int


def crossed(spending: Spending, sent: Collection[int]) -> list[int]:
    """Return the thresholds that are reached and were not told in the period, in percent."""
    if spending.limit_nano_usd <= 0:
        return []
    return [
        percent
        for percent in THRESHOLDS_PERCENT
        if percent not in sent
        and spending.spent_nano_usd * 100 >= percent * spending.limit_nano_usd
    ]


def retry_unix_ms(now_unix_ms: int, attempts: int) -> int | None:
    """Return when to try again after so many failed attempts; None: it is given up."""
    if attempts > len(RETRY_S):
        return None
    return now_unix_ms + RETRY_S[attempts - 1] * 1_000
