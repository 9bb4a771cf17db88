"""Invoices and credit notes: drafted from a month's lines, issued once, never changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from coordinator.billing import account_credits, books, customers
from coordinator.core import invoice_rules, ledger
from coordinator.core.grants import CreditKind
from coordinator.core.invoice_content import content_of, invoice_of
from coordinator.core.invoice_rules import Invoice, MonthSums, Party, UsageLine
from coordinator.core.ledger import NANO_PER_CENT
from coordinator.core.months import (
    DAY_MS,
    ClosePolicy,
    number_of_month,
    text_of_month,
    year_of,
)
from coordinator.core.sla_credits import PromiseSums, SlaCredit, TermsOf, credits_of
from protos.domain.errors import NotFound

if TYPE_CHECKING:
    import sqlite3

    from coordinator.core.ledger import Invoiced
    from coordinator.core.tax import TaxRule

INVOICE, CREDIT_NOTE = "invoice", "credit_note"
_PREFIX = {INVOICE: "EF", CREDIT_NOTE: "CN"}


@dataclass(frozen=True, slots=True)
class InvoiceRules:
    """What invoices are made by; from the configuration and the price card."""

    seller: Party
    tax: TaxRule
    policy: ClosePolicy
    terms_of: TermsOf


@dataclass(frozen=True, slots=True)
class InvoiceRow:
    """An invoice or credit note with how far it is settled."""

    invoice: Invoice
    kind: str
    open_cents: int
    credited_cents: int
    attempts: int
    last_error: str

    @property
    def paid(self) -> bool:
        """Whether nothing is open."""
        return self.open_cents == 0


def month_lines(connection: sqlite3.Connection, account: str, month: str) -> list[UsageLine]:
    """Return the lines of an account that a month bills."""
    return [
        UsageLine(text_of_month(usage_month), *rest)
        for usage_month, *rest in connection.execute(
            "SELECT usage_month, deployment, tier_billed, sla_tier, card_version, requests,"
            " prompt_tokens, cached_tokens, completion_tokens, nano_usd FROM month_lines"
            " WHERE account = ? AND booked_month = ?",
            (account, number_of_month(month)),
        )
    ]


def draft(
    connection: sqlite3.Connection, account: str, month: str, rules: InvoiceRules
) -> tuple[Invoice, Invoiced]:
    """Return the invoice of a month as it stands now, and its amounts for the ledger."""
    number = number_of_month(month)
    paid = connection.execute(
        "SELECT grants_nano_usd, prepaid_nano_usd FROM month_credits"
        " WHERE account = ? AND booked_month = ?",
        (account, number),
    ).fetchone() or (0, 0)
    sums = MonthSums(
        account,
        month,
        month_lines(connection, account, month),
        grants_nano_usd=paid[0],
        prepaid_nano_usd=paid[1],
        sla=_sla_credits(connection, account, number, rules.terms_of),
    )
    customer = customers.party_of(customers.load(connection, account))
    return invoice_rules.draft(sums, rules.seller, customer, rules.tax)


def issued_or_draft(
    connection: sqlite3.Connection, account: str, month: str, rules: InvoiceRules
) -> Invoice:
    """Return the invoice of a month; its draft, if it is not issued."""
    row = connection.execute(
        "SELECT number FROM invoices WHERE kind = 'invoice' AND account = ? AND month = ?",
        (account, number_of_month(month)),
    ).fetchone()
    return find(connection, row[0]).invoice if row else draft(connection, account, month, rules)[0]


def issued_or_drafts(
    connection: sqlite3.Connection, account: str, month: str, rules: InvoiceRules
) -> list[Invoice]:
    """Return the invoice or draft of an account's month; empty: of every account with usage."""
    names = [account]
    if not account:
        query = "SELECT DISTINCT account FROM month_lines WHERE booked_month = ? ORDER BY account"
        names = [name for (name,) in connection.execute(query, (number_of_month(month),))]
    return [issued_or_draft(connection, name, month, rules) for name in names]


def _sla_credits(
    connection: sqlite3.Connection, account: str, month: int, terms_of: TermsOf
) -> list[SlaCredit]:
    tiers = [
        PromiseSums(account, *row)
        for row in connection.execute(
            "SELECT sla_tier, card_version, sum(streams), sum(streams_in_time), sum(nano_usd)"
            " FROM month_lines WHERE account = ? AND booked_month = ?"
            " GROUP BY sla_tier, card_version",
            (account, month),
        )
    ]
    return [one for one in credits_of(tiers, terms_of) if one.nano_usd > 0]


def accounts_to_invoice(connection: sqlite3.Connection, month: str) -> list[str]:
    """Return the accounts whose closed month has usage and no invoice yet, by name."""
    number = number_of_month(month)
    return [
        account
        for (account,) in connection.execute(
            "SELECT account FROM month_lines WHERE booked_month = ? GROUP BY account"
            " HAVING sum(nano_usd) > 0 AND account NOT IN (SELECT account FROM invoices"
            " WHERE kind = 'invoice' AND month = ?) ORDER BY account",
            (number, number),
        )
    ]


def issue(
    connection: sqlite3.Connection,
    account: str,
    month: str,
    rules: InvoiceRules,
    now_unix_ms: int,
) -> Invoice:
    """Issue the invoice of a closed month and post it. The table allows one a month."""
    made, amounts = draft(connection, account, month, rules)
    due_unix_ms = now_unix_ms + rules.policy.due_days * DAY_MS
    numbered = _numbered(connection, made, INVOICE, now_unix_ms, due_unix_ms)
    books.append(
        connection, ledger.of_invoice(account, month, now_unix_ms, amounts, numbered.number)
    )
    if numbered.sla_carried_nano_usd:
        _carry(connection, numbered, now_unix_ms)
    connection.execute(
        "INSERT INTO settlements (number, account, due_unix_ms, open_cents,"
        " next_attempt_unix_ms) VALUES (?, ?, ?, ?, ?)",
        (numbered.number, account, due_unix_ms, numbered.due_cents, due_unix_ms),
    )
    return numbered


def _carry(connection: sqlite3.Connection, invoice: Invoice, now_unix_ms: int) -> None:
    """Give what of the SLA credits the invoice could not take as a grant without an end."""
    nano_usd = invoice.sla_carried_nano_usd
    new = account_credits.NewCredit(
        invoice.account,
        CreditKind.GRANT,
        nano_usd,
        f"SLA credit of {invoice.month}, over what invoice {invoice.number} asked for",
        "billing",
    )
    account_credits.insert(connection, new, now_unix_ms)
    books.append(
        connection,
        ledger.posting(
            "sla_credit",
            invoice.account,
            account_credits.open_month(connection, now_unix_ms),
            now_unix_ms,
            (
                (ledger.REVENUE_SLA_CREDITS, nano_usd),
                (ledger.grants(invoice.account), -nano_usd),
            ),
            invoice.number,
        ),
    )


def credit_note(
    connection: sqlite3.Connection,
    number: str,
    cents: int | None,
    reason: str,
    now_unix_ms: int,
) -> Invoice:
    """Issue a credit note about an invoice; None: about all that is left of it.

    It lowers what is open; what was paid already becomes prepaid credit.
    Raises: NotFound, InvalidRequest.
    """
    row = find(connection, number)
    if row.kind != INVOICE:
        raise NotFound(f"{number} is no invoice", "name an invoice, such as EF-2026-000001")
    of = row.invoice
    cents = invoice_rules.credit_note_cents(of.total_cents, row.credited_cents, cents, reason)
    earlier_tax = invoice_rules.tax_part_cents(of.tax_cents, of.total_cents, row.credited_cents)
    tax = (
        invoice_rules.tax_part_cents(of.tax_cents, of.total_cents, row.credited_cents + cents)
        - earlier_tax
    )
    note = replace(
        of,
        lines=(),
        deductions=(),
        taxes=(),
        gross_cents=tax - cents,
        net_cents=tax - cents,
        tax_cents=-tax,
        total_cents=-cents,
        prepaid_cents=0,
        due_cents=-cents,
        sla_carried_nano_usd=0,
        of_invoice=number,
        reason=reason.strip(),
    )
    made = _numbered(connection, note, CREDIT_NOTE, now_unix_ms, now_unix_ms)
    lowered = min(cents, row.open_cents)
    back_nano = (cents - lowered) * NANO_PER_CENT
    if back_nano:
        why = f"credit note {made.number} of paid invoice {number}"
        new = account_credits.NewCredit(of.account, CreditKind.PREPAID, back_nano, why, "billing")
        account_credits.insert(connection, new, now_unix_ms)
    connection.execute(
        "UPDATE settlements SET open_cents = open_cents - ?, credited_cents = credited_cents + ?"
        " WHERE number = ?",
        (lowered, cents, number),
    )
    books.append(
        connection,
        ledger.posting(
            CREDIT_NOTE,
            of.account,
            account_credits.open_month(connection, now_unix_ms),
            now_unix_ms,
            (
                (ledger.REVENUE_CREDIT_NOTES, (cents - tax) * NANO_PER_CENT),
                (ledger.TAX_PAYABLE, tax * NANO_PER_CENT),
                (ledger.receivable(of.account), -lowered * NANO_PER_CENT),
                (ledger.prepaid(of.account), -back_nano),
            ),
            made.number,
        ),
    )
    return made


def _numbered(
    connection: sqlite3.Connection, made: Invoice, kind: str, now_unix_ms: int, due_unix_ms: int
) -> Invoice:
    """Write a document under the next number of its year, without gaps: in one transaction."""
    year = year_of(now_unix_ms)
    (last,) = connection.execute(
        "SELECT coalesce(max(serial), 0) FROM invoices WHERE kind = ? AND year = ?", (kind, year)
    ).fetchone()
    number = invoice_rules.number_of(_PREFIX[kind], year, last + 1)
    done = replace(made, number=number, issued_unix_ms=now_unix_ms, due_unix_ms=due_unix_ms)
    connection.execute(
        "INSERT INTO invoices VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(number, kind, year, last + 1, done.account, number_of_month(done.month)),
            *(now_unix_ms, due_unix_ms, done.total_cents, done.due_cents, done.of_invoice),
            json.dumps(content_of(done), ensure_ascii=False, sort_keys=True),
        ),
    )
    return done


_SELECT = (
    "SELECT content, kind, coalesce(open_cents, 0), coalesce(credited_cents, 0),"
    " coalesce(attempts, 0), coalesce(last_error, '') FROM invoices"
    " LEFT JOIN settlements USING (number)"
)


def find(connection: sqlite3.Connection, number: str) -> InvoiceRow:
    """Return an invoice or a credit note. Raises: NotFound."""
    row = connection.execute(f"{_SELECT} WHERE number = ?", (number,)).fetchone()
    if row is None:
        raise NotFound(f"there is no invoice {number[:40]!a}", "`edgeforge invoice ls` lists them")
    return _row(row)


def listed(connection: sqlite3.Connection, account: str, limit: int = 1_000) -> list[InvoiceRow]:
    """Return invoices and credit notes, the newest first; ``account`` empty: of everyone."""
    return [
        _row(row)
        for row in connection.execute(
            f"{_SELECT} WHERE ? = '' OR invoices.account = ?"
            " ORDER BY issued_unix_ms DESC, number DESC LIMIT ?",
            (account, account, limit),
        )
    ]


def _row(row: Sequence[object]) -> InvoiceRow:
    content, kind, opened, credited, attempts, error = row
    return InvoiceRow(
        invoice_of(json.loads(str(content))),
        str(kind),
        int(str(opened)),
        int(str(credited)),
        int(str(attempts)),
        str(error),
    )
