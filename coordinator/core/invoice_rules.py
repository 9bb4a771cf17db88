"""Invoices: lines of a month, the one rounding rule, totals, and credit notes.

A line's exact nano-USD become cents once, half up; every total is the sum of cents that are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.core.ledger import NANO_PER_CENT, Invoiced
from protos.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from coordinator.core.sla_credits import SlaCredit
    from coordinator.core.tax import TaxLine, TaxRule

MAX_REASON_CHARS = 500


@dataclass(frozen=True, slots=True)
class Party:
    """A seller or a customer, as printed."""

    legal_name: str = ""
    address: str = ""
    country: str = ""
    vat_id: str = ""
    email: str = ""


@dataclass(frozen=True, slots=True)
class UsageLine:
    """What one deployment used in one billing tier, SLA tier and card of a month.

    ``month`` is when it was used; where that is not the invoice's, the line is an adjustment.
    """

    month: str
    deployment: str
    tier_billed: str
    sla_tier: str
    card_version: int
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    nano_usd: int

    @property
    def cents(self) -> int:
        """The line's amount as shown."""
        return cents_of(self.nano_usd)

    @property
    def nano_usd_per_million_tokens(self) -> int:
        """The line's average rate; its tokens of different kinds have rates of their own."""
        tokens = self.prompt_tokens + self.completion_tokens
        return self.nano_usd * 1_000_000 // tokens if tokens else 0


@dataclass(frozen=True, slots=True)
class Deduction:
    """What lowers an invoice: a grant that paid, or an SLA credit; ``cents`` is positive."""

    kind: str
    description: str
    cents: int


@dataclass(frozen=True, slots=True)
class MonthSums:
    """Everything that one account's invoice of a month is made from."""

    account: str
    month: str
    lines: Sequence[UsageLine]
    #: What credits paid, of the sum of the lines.
    grants_nano_usd: int = 0
    prepaid_nano_usd: int = 0
    sla: Sequence[SlaCredit] = ()


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice, a draft of one (no number), or a credit note (``of_invoice`` and a reason)."""

    number: str
    account: str
    month: str
    seller: Party
    customer: Party
    lines: tuple[UsageLine, ...]
    deductions: tuple[Deduction, ...]
    taxes: tuple[TaxLine, ...]
    #: Sum of the lines' cents.
    gross_cents: int
    #: gross - deductions; the base of taxes.
    net_cents: int
    tax_cents: int
    total_cents: int
    #: What was paid in advance.
    prepaid_cents: int
    #: What is to be paid.
    due_cents: int
    #: The part of the SLA credits that the invoice could not take; it becomes a grant.
    sla_carried_nano_usd: int
    issued_unix_ms: int = 0
    due_unix_ms: int = 0
    currency: str = "USD"
    of_invoice: str = ""
    reason: str = ""

    @property
    def total_nano_usd(self) -> int:
        """The exact sum of the lines."""
        return sum(line.nano_usd for line in self.lines)


def cents_of(nano_usd: int) -> int:
    """Return whole cents, rounded half up (away from zero). The one rounding of an amount."""
    sign = -1 if nano_usd < 0 else 1
    return sign * ((abs(nano_usd) * 2 + NANO_PER_CENT) // (2 * NANO_PER_CENT))


def draft(
    sums: MonthSums, seller: Party, customer: Party, tax: TaxRule
) -> tuple[Invoice, Invoiced]:
    """Return the invoice of a month without a number, and its amounts for the ledger."""
    lines = tuple(sorted(sums.lines, key=_line_order))
    gross = sum(line.cents for line in lines)
    total_nano = sum(line.nano_usd for line in lines)
    unbilled_nano = total_nano - sums.grants_nano_usd - sums.prepaid_nano_usd
    grants, prepaid = _credits_in_cents(sums, gross, unbilled_nano)
    open_cents = gross - grants - prepaid
    sla, sla_cents, carried_nano = _sla_deductions(sums.sla, open_cents)
    deductions = [*sla]
    if grants:
        deductions.insert(0, Deduction("grant", "Credits granted", grants))
    net = gross - grants - sla_cents
    taxes = tax.lines(customer.country, customer.vat_id, net) if net else ()
    tax_cents = sum(line.cents for line in taxes)
    total = net + tax_cents
    made = Invoice(
        "",
        sums.account,
        sums.month,
        seller,
        customer,
        lines,
        tuple(deductions),
        taxes,
        gross_cents=gross,
        net_cents=net,
        tax_cents=tax_cents,
        total_cents=total,
        prepaid_cents=prepaid,
        due_cents=total - prepaid,
        sla_carried_nano_usd=carried_nano,
    )
    amounts = Invoiced(
        unbilled_nano_usd=unbilled_nano,
        due_nano_usd=made.due_cents * NANO_PER_CENT,
        tax_nano_usd=tax_cents * NANO_PER_CENT,
        sla_nano_usd=sla_cents * NANO_PER_CENT,
    )
    return made, amounts


def number_of(prefix: str, year: int, serial: int) -> str:
    """Return "EF-2026-000001". Raises: InvalidRequest past the digits."""
    if not 1 <= serial <= 999_999:
        raise InvalidRequest(f"there is no number {serial} in {prefix}-{year}")
    return f"{prefix}-{year}-{serial:06d}"


def credit_note_cents(
    invoice_total_cents: int, credited_cents: int, cents: int | None, reason: str
) -> int:
    """Return what a credit note credits; None asks for all that is left. Raises: InvalidRequest."""
    if not reason.strip():
        raise InvalidRequest("a credit note needs a reason", "say why with --reason")
    if len(reason) > MAX_REASON_CHARS:
        raise InvalidRequest(f"the reason is longer than {MAX_REASON_CHARS} characters")
    left = invoice_total_cents - credited_cents
    wanted = left if cents is None else cents
    if wanted <= 0:
        raise InvalidRequest("a credit note credits more than nothing")
    if wanted > left:
        raise InvalidRequest(
            f"the credit note of {usd(wanted)} is over the {usd(left)} left of the invoice",
            f"credit {usd(left)} at most",
        )
    return wanted


def tax_part_cents(invoice_tax_cents: int, invoice_total_cents: int, cents: int) -> int:
    """Return the tax in a part of an invoice's total, rounded half up."""
    if invoice_total_cents <= 0:
        return 0
    return (invoice_tax_cents * cents * 2 + invoice_total_cents) // (2 * invoice_total_cents)


def usd(cents: int) -> str:
    """Return "1,234.50 USD"."""
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100:,}.{abs(cents) % 100:02d} USD"


@dataclass(slots=True)
class InvoiceSums:
    """Requests and tokens over the lines of an invoice."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_nano_usd: int = 0
    lines: list[UsageLine] = field(default_factory=list)


def sums_of(lines: Iterable[UsageLine]) -> InvoiceSums:
    """Return the sums over lines."""
    sums = InvoiceSums()
    for line in lines:
        sums.requests += line.requests
        sums.prompt_tokens += line.prompt_tokens
        sums.completion_tokens += line.completion_tokens
        sums.total_nano_usd += line.nano_usd
        sums.lines.append(line)
    return sums


def _line_order(line: UsageLine) -> tuple[str, str, str, str, int]:
    return (line.month, line.deployment, line.tier_billed, line.sla_tier, line.card_version)


def _credits_in_cents(sums: MonthSums, gross: int, unbilled_nano: int) -> tuple[int, int]:
    """Return what grants and prepaid paid, in cents: together never more than the lines show."""
    grants = min(cents_of(sums.grants_nano_usd), gross)
    if unbilled_nano > 0:
        return grants, min(cents_of(sums.prepaid_nano_usd), gross - grants)
    # All was paid by credits: no remainder of rounded cents is asked for.
    return (grants, gross - grants) if sums.prepaid_nano_usd else (gross, 0)


def _sla_deductions(owed: Sequence[SlaCredit], open_cents: int) -> tuple[list[Deduction], int, int]:
    """Return the deductions, their sum, and the nano-USD that remain."""
    deductions, taken, carried_nano = [], 0, 0
    for one in owed:
        cents = min(cents_of(one.nano_usd), open_cents - taken)
        carried_nano += max(0, one.nano_usd - cents * NANO_PER_CENT)
        if cents <= 0:
            continue
        taken += cents
        percent = one.streams_in_time * 100 // one.streams if one.streams else 100
        text = (
            f"SLA credit, {one.sla_tier}: {percent} % of {one.streams} streams in time,"
            f" promised {one.promise_percent} %"
        )
        deductions.append(Deduction("sla_credit", text, cents))
    return deductions, taken, carried_nano
