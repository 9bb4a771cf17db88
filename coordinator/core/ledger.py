"""The ledger: double entry in nano-USD, debits positive and credits negative.

Each transaction's entries sum to zero. What is posted is never changed; a mistake is undone by
another transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from protos.domain.errors import InvalidRequest

NANO_PER_CENT = 10_000_000
#: Largest amount of one entry: ten billion dollars, so that sums stay within 64 bits.
MAX_NANO_USD = 10**19 // 2 // 1_000

REVENUE_USAGE = "revenue/usage"
REVENUE_SLA_CREDITS = "revenue/sla_credits"
REVENUE_CREDIT_NOTES = "revenue/credit_notes"
EXPENSE_GRANTS = "expense/grants"
REVENUE_EXPIRED = "revenue/expired_prepaid"
TAX_PAYABLE = "tax/payable"
ROUNDING = "rounding"
CASH_STRIPE = "cash/stripe"
CASH_MANUAL = "cash/manual"


def unbilled(account: str) -> str:
    """Return where usage waits for its invoice."""
    return f"unbilled/{account}"


def receivable(account: str) -> str:
    """Return what an account owes by its invoices."""
    return f"receivable/{account}"


def prepaid(account: str) -> str:
    """Return what an account has paid in advance: a liability, so a negative balance."""
    return f"prepaid/{account}"


def grants(account: str) -> str:
    """Return what an account was granted and has not used: a liability."""
    return f"grants/{account}"


@dataclass(frozen=True, slots=True)
class Entry:
    """An amount on one account of the ledger."""

    ledger_account: str
    nano_usd: int


@dataclass(frozen=True, slots=True)
class Posting:
    """A transaction to be written.

    ``kind`` is what happened: "usage", "grant", "topup", "expiry", "invoice", "credit_note",
    "payment", "reversal", "sla_credit". ``month`` is the one that it is booked in, ``reference``
    what it is about: an invoice, a credit, a payment.
    """

    kind: str
    account: str
    month: str
    at_unix_ms: int
    entries: tuple[Entry, ...]
    reference: str = ""


def posting(
    kind: str,
    account: str,
    month: str,
    at_unix_ms: int,
    entries: Iterable[tuple[str, int]],
    reference: str = "",
) -> Posting:
    """Return a transaction without its zero entries. Raises: InvalidRequest if it is unbalanced."""
    kept = tuple(Entry(name, nano_usd) for name, nano_usd in entries if nano_usd)
    made = Posting(kind, account, month, at_unix_ms, kept, reference)
    check(made)
    return made


def check(made: Posting) -> None:
    """Raises: InvalidRequest for a transaction that may not be written."""
    total = sum(entry.nano_usd for entry in made.entries)
    if total:
        raise InvalidRequest(f"a {made.kind} transaction of {made.account} is off by {total}")
    if any(abs(entry.nano_usd) > MAX_NANO_USD for entry in made.entries):
        raise InvalidRequest(f"a {made.kind} transaction of {made.account} is impossibly large")


def of_usage(
    account: str,
    month: str,
    at_unix_ms: int,
    nano_usd: int,
    *,
    from_grants_nano_usd: int = 0,
    from_prepaid_nano_usd: int = 0,
) -> Posting:
    """Return usage: paid from credits as far as they went, the rest waits for an invoice."""
    rest = nano_usd - from_grants_nano_usd - from_prepaid_nano_usd
    return posting(
        "usage",
        account,
        month,
        at_unix_ms,
        (
            (grants(account), from_grants_nano_usd),
            (prepaid(account), from_prepaid_nano_usd),
            (unbilled(account), rest),
            (REVENUE_USAGE, -nano_usd),
        ),
    )


@dataclass(frozen=True, slots=True)
class Invoiced:
    """The amounts of an invoice that the ledger needs, in nano-USD."""

    #: What waited on ``unbilled``: exact.
    unbilled_nano_usd: int
    #: What is to be paid, tax included: whole cents.
    due_nano_usd: int
    tax_nano_usd: int
    #: The part of the SLA credits that lowers what is to be paid, before tax.
    sla_nano_usd: int


def of_invoice(
    account: str, month: str, at_unix_ms: int, amounts: Invoiced, number: str
) -> Posting:
    """Return the issue of an invoice; the cent's remainders go to ``rounding``."""
    rounding = amounts.unbilled_nano_usd + amounts.tax_nano_usd - amounts.sla_nano_usd
    return posting(
        "invoice",
        account,
        month,
        at_unix_ms,
        (
            (receivable(account), amounts.due_nano_usd),
            (unbilled(account), -amounts.unbilled_nano_usd),
            (TAX_PAYABLE, -amounts.tax_nano_usd),
            (REVENUE_SLA_CREDITS, amounts.sla_nano_usd),
            (ROUNDING, rounding - amounts.due_nano_usd),
        ),
        number,
    )


def balances(postings: Sequence[Posting]) -> dict[str, int]:
    """Return the balance of each account of the ledger, without zeros."""
    found: dict[str, int] = {}
    for one in postings:
        for entry in one.entries:
            found[entry.ledger_account] = found.get(entry.ledger_account, 0) + entry.nano_usd
    return {name: nano_usd for name, nano_usd in found.items() if nano_usd}
