"""An invoice as a page of HTML: no script, no remote part, every text escaped."""

from __future__ import annotations

import html
from datetime import UTC, datetime

from coordinator.core.invoice_rules import Invoice, Party, UsageLine, usd
from coordinator.core.invoice_tables import other_amounts
from protos.domain.pricing import format_usd

ROUNDING_NOTE = (
    "Each line's exact amount is rounded half up to a cent, once; totals are sums of what is shown."
)
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%;margin:1.5rem 0}"
    "th,td{text-align:left;padding:.35rem .5rem;border-bottom:1px solid #ddd}"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}"
    ".parties{display:flex;gap:4rem}address{font-style:normal;white-space:pre-line}"
)


def page_of(invoice: Invoice) -> str:
    """Return the page."""
    lines = "".join(_line(line, invoice) for line in invoice.lines)
    others = "".join(
        f'<tr><td colspan="5">{html.escape(text)}</td><td class="n">{usd(cents)}</td></tr>'
        for _, text, cents in other_amounts(invoice)
    )
    heading = html.escape(title_of(invoice))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{heading}</title><style>{_STYLE}</style></head><body><h1>{heading}</h1>"
        f"<p>{html.escape(dates_of(invoice))}</p>"
        f'<div class="parties">{_party("From", invoice.seller)}'
        f"{_party('To', invoice.customer)}</div>"
        "<table><thead><tr><th>Deployment</th><th>Tier, SLA, card</th>"
        '<th class="n">Requests</th><th class="n">Tokens in (cached) / out</th>'
        '<th class="n">USD per million tokens, average</th><th class="n">Amount</th></tr></thead>'
        f"<tbody>{lines}{others}</tbody><tfoot>"
        f'<tr><th colspan="5">Total</th><th class="n">{usd(invoice.total_cents)}</th></tr>'
        f'<tr><th colspan="5">Due</th><th class="n">{usd(invoice.due_cents)}</th></tr>'
        f"</tfoot></table><p>{ROUNDING_NOTE}</p></body></html>\n"
    )


def title_of(invoice: Invoice) -> str:
    """Return "Invoice EF-2026-000001"."""
    if invoice.of_invoice:
        return f"Credit note {invoice.number}"
    return f"Invoice {invoice.number}" if invoice.number else "Draft of an invoice"


def dates_of(invoice: Invoice) -> str:
    """Return the month and the dates, in UTC."""
    text = f"Month {invoice.month} (UTC), account {invoice.account}"
    if invoice.issued_unix_ms:
        text += f", issued {_date(invoice.issued_unix_ms)}"
    if invoice.due_cents > 0 and invoice.due_unix_ms:
        text += f", due {_date(invoice.due_unix_ms)}"
    return text


def name_of(line: UsageLine, invoice: Invoice) -> str:
    """Return a line's deployment, and the month of an adjustment."""
    late = f" (adjustment, used in {line.month})" if line.month != invoice.month else ""
    return f"{line.deployment}{late}"


def terms_of(line: UsageLine) -> str:
    """Return by what a line was billed."""
    return f"{line.tier_billed or 'free'}, {line.sla_tier}, card {line.card_version}"


def tokens_of(line: UsageLine) -> str:
    """Return tokens in, of them cached, and out."""
    return f"{line.prompt_tokens:,} ({line.cached_tokens:,}) / {line.completion_tokens:,}"


def party_lines(party: Party) -> list[str]:
    """Return what is printed of a party."""
    found = [party.legal_name, *party.address.split("\n"), party.country]
    found += [f"VAT id {party.vat_id}"] if party.vat_id else []
    return [one for one in (*found, party.email) if one]


def _line(line: UsageLine, invoice: Invoice) -> str:
    return (
        f"<tr><td>{html.escape(name_of(line, invoice))}</td><td>{html.escape(terms_of(line))}</td>"
        f'<td class="n">{line.requests:,}</td><td class="n">{tokens_of(line)}</td>'
        f'<td class="n">{format_usd(line.nano_usd_per_million_tokens)}</td>'
        f'<td class="n">{usd(line.cents)}</td></tr>'
    )


def _party(heading: str, party: Party) -> str:
    text = "\n".join(party_lines(party))
    return f"<section><h2>{heading}</h2><address>{html.escape(text)}</address></section>"


def _date(unix_ms: int) -> str:
    return f"{datetime.fromtimestamp(unix_ms // 1_000, UTC):%Y-%m-%d}"
