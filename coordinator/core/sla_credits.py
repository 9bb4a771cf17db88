"""Credits for missed promises: one rule for reports and invoices alike. Pure.

The card promises that a share of an SLA tier's streams have their first token within the budget.
The share is judged over a whole month of an account and an SLA tier, whichever cards were in force;
where it is missed, what was billed by each card is credited with that card's percents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from protos.domain.resources import CardTerms

TermsOf = Callable[[int], CardTerms | None]


@dataclass(frozen=True, slots=True)
class PromiseSums:
    """What one account used of one SLA tier in one month at one version of the card."""

    account: str
    sla_tier: str
    card_version: int
    streams: int
    streams_in_time: int
    nano_usd: int


@dataclass(frozen=True, slots=True)
class SlaCredit:
    """How a promise was kept. ``nano_usd`` is owed, 0 where it was kept.

    ``promise_percent`` is that of the newest card of the month.
    """

    account: str
    sla_tier: str
    streams: int
    streams_in_time: int
    promise_percent: int
    charged_nano_usd: int
    nano_usd: int


def is_kept(streams: int, streams_in_time: int, promise_percent: int) -> bool:
    """Whether enough streams were in time; a month without a stream has kept every promise."""
    return streams_in_time * 100 >= promise_percent * streams


def credits_of(month: Iterable[PromiseSums], terms_of: TermsOf) -> list[SlaCredit]:
    """Return one line for each account and SLA tier of one month, kept promises too, in order.

    ``terms_of`` returns the terms of a version of the card; one that is not known promises nothing.
    A credit is rounded half up to a nano-USD.
    """
    grouped: dict[tuple[str, str], list[PromiseSums]] = {}
    for one in month:
        grouped.setdefault((one.account, one.sla_tier), []).append(one)
    return [
        _credit_of(account, sla_tier, sums, terms_of)
        for (account, sla_tier), sums in sorted(grouped.items())
    ]


def _credit_of(
    account: str, sla_tier: str, sums: list[PromiseSums], terms_of: TermsOf
) -> SlaCredit:
    streams = sum(one.streams for one in sums)
    in_time = sum(one.streams_in_time for one in sums)
    owed_nano_usd = promise_percent = 0
    for one in sorted(sums, key=lambda one: one.card_version):
        terms = terms_of(one.card_version)
        if terms is None:
            continue
        promise_percent = terms.promise_percent
        if not is_kept(streams, in_time, terms.promise_percent):
            owed_nano_usd += (one.nano_usd * terms.credit_percent + 50) // 100
    return SlaCredit(
        account,
        sla_tier,
        streams,
        in_time,
        promise_percent,
        sum(one.nano_usd for one in sums),
        owed_nano_usd,
    )
