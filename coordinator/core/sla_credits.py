"""Credits for promises of an SLA tier that were missed, from the sums of a month."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_PERCENT = 100


@dataclass(frozen=True, slots=True)
class TierMonth:
    """One account's month in one SLA tier, under one price card."""

    sla_tier: str
    card_version: int
    streams: int
    streams_in_time: int
    nano_usd: int


@dataclass(frozen=True, slots=True)
class Promise:
    """What the card says: the share that is promised, and what is credited; in percent."""

    promise_percent: int
    credit_percent: int


@dataclass(frozen=True, slots=True)
class SlaCredit:
    """What is owed for one tier."""

    sla_tier: str
    streams: int
    streams_in_time: int
    promise_percent: int
    credit_percent: int
    nano_usd: int


def kept(streams: int, streams_in_time: int, promise_percent: int) -> bool:
    """Return whether the promised share was in time; without streams it was."""
    return streams_in_time * _PERCENT >= promise_percent * streams


def credit_of(month: Iterable[TierMonth], promises: dict[int, Promise]) -> list[SlaCredit]:
    """Return what is owed for each tier, by its name; tiers that were kept are left out.

    A tier's streams are judged together over the month, by the highest promise of the cards that
    were in force; each card's cost is credited by that card's percent. Rounded down to nano-USD.
    """
    tiers: dict[str, list[TierMonth]] = {}
    for one in month:
        tiers.setdefault(one.sla_tier, []).append(one)
    owed = []
    for sla_tier, parts in sorted(tiers.items()):
        known = [(one, promises[one.card_version]) for one in parts if one.card_version in promises]
        if not known:
            continue
        streams = sum(one.streams for one in parts)
        in_time = sum(one.streams_in_time for one in parts)
        promise_percent = max(promise.promise_percent for _, promise in known)
        if kept(streams, in_time, promise_percent):
            continue
        nano_usd = sum(one.nano_usd * by.credit_percent // _PERCENT for one, by in known)
        percent = max(promise.credit_percent for _, promise in known)
        if nano_usd > 0:
            owed.append(SlaCredit(sla_tier, streams, in_time, promise_percent, percent, nano_usd))
    return owed
