"""The books for tests: the usage database in memory, and usage that is counted and posted."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from coordinator.billing import posting
from coordinator.billing.invoices import InvoiceRules
from coordinator.core.invoice_rules import Party
from coordinator.core.months import ClosePolicy, month_end_unix_ms, month_start_unix_ms
from coordinator.core.tax import NoTax, TaxRule
from coordinator.core.usage_rollup import UsageDelta, booked_month
from coordinator.usage.migration import migrate
from coordinator.usage.migrations import ALL_MIGRATIONS
from protos.domain.resources import CardTerms
from protos.domain.usage_record import SUM_NAMES, UsageKey, UsageSums

FEBRUARY = month_start_unix_ms("2028-02")
MARCH = month_start_unix_ms("2028-03")
CENT = 10_000_000
USD = 10**9
SELLER = Party("EdgeForge Ltd", "1 Sample Street\n10115 Berlin", "DE", "DE123456789")


def books_in_memory() -> sqlite3.Connection:
    """Return a connection with every table of usage and billing."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, ALL_MIGRATIONS, 1)
    return connection


def usage(
    account: str = "acme",
    nano_usd: int = 5 * CENT,
    at_unix_ms: int = FEBRUARY,
    *,
    closed_through_unix_ms: int = 0,
    deployment: str = "chat",
    tier_billed: str = "edge",
    sla_tier: str = "standard",
    card_version: int = 1,
    streams: int = 0,
    streams_in_time: int = 0,
) -> UsageDelta:
    """Return the usage of one request."""
    minute = at_unix_ms - at_unix_ms % 60_000
    key = UsageKey(
        *(minute, account, deployment, "acme/m@1", sla_tier, "edge", tier_billed),
        *(card_version, "GRU", "GRU"),
    )
    sums = UsageSums(
        requests=1,
        billed=int(nano_usd > 0),
        seen=1,
        prompt_tokens=100,
        cached_tokens=10,
        completion_tokens=50,
        nano_usd=nano_usd,
        streams=streams,
        streams_in_time=streams_in_time,
    )
    return UsageDelta(key, sums, booked_month(minute, closed_through_unix_ms))


def count(connection: sqlite3.Connection, deltas: Sequence[UsageDelta], at_unix_ms: int) -> None:
    """Add usage to the sums by minute and post it, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for key, sums, booked in deltas:
            dimension = (
                *(key.account, key.deployment, key.model, key.sla_tier, key.tier_served),
                *(key.tier_billed, key.card_version, key.serving_pop, key.ingress_pop),
            )
            (number,) = connection.execute(
                "INSERT INTO dimensions VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET account = account RETURNING id",
                dimension,
            ).fetchone()
            connection.execute(
                f"INSERT INTO sums VALUES (?, ?, ?{', ?' * len(SUM_NAMES)}) ON CONFLICT DO UPDATE"
                " SET " + ", ".join(f"{one} = {one} + excluded.{one}" for one in SUM_NAMES),
                (
                    *(key.minute_unix_ms, number, booked),
                    *(getattr(sums, name) for name in SUM_NAMES),
                ),
            )
        posting.post(connection, deltas, at_unix_ms)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def close(connection: sqlite3.Connection, month: str) -> None:
    """Close a month: later usage of it is booked in the next."""
    end = month_end_unix_ms(month)
    number = int(month.replace("-", ""))
    connection.execute("INSERT INTO closed_months VALUES (?, ?, 0)", (number, end))


def rules(
    tax: TaxRule | None = None, *, promise_percent: int = 95, credit_percent: int = 10
) -> InvoiceRules:
    """Return what invoices are made by."""
    terms = CardTerms(1, promise_percent=promise_percent, credit_percent=credit_percent)
    return InvoiceRules(SELLER, tax or NoTax(), ClosePolicy(), lambda version: terms)
