"""Invoices as FOCUS 1.2 rows: the FinOps Open Cost and Usage Specification.

Source: https://focus.finops.org, version 1.2, "Columns"; mandatory and conditional ones that
apply, in the specification's names. Times are ISO 8601 in UTC, decimals have a point.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from coordinator.core.months import month_end_unix_ms, month_start_unix_ms
from protos.domain.pricing import format_usd

if TYPE_CHECKING:
    from coordinator.core.invoice_rules import Invoice, UsageLine

FOCUS_VERSION = "1.2"
COLUMNS = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingAccountType",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "InvoiceId",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingCurrency",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SkuPriceId",
)

_PROVIDER = "EdgeForge"
_CENT_PARTS = 100


def rows_of(invoice: Invoice) -> list[dict[str, str]]:
    """Return a row for each line, deduction, tax and prepaid payment; BilledCost sums to due."""
    rows = [_usage_row(invoice, line) for line in invoice.lines]
    for one in invoice.deductions:
        rows.append(_flat_row(invoice, "Credit", one.description, -one.cents))  # noqa: PERF401
    for tax in invoice.taxes:
        rows.append(_flat_row(invoice, "Tax", tax.description, tax.cents))  # noqa: PERF401
    if invoice.prepaid_cents:
        text = "Paid from the prepaid balance"
        rows.append(_flat_row(invoice, "Credit", text, -invoice.prepaid_cents))
    if invoice.of_invoice:
        row = _flat_row(invoice, "Credit", invoice.reason, invoice.total_cents)
        rows = [{**row, "ChargeClass": "Correction"}]
    return rows


def _usage_row(invoice: Invoice, line: UsageLine) -> dict[str, str]:
    tokens = line.prompt_tokens + line.completion_tokens
    rate = format_usd(line.nano_usd_per_million_tokens)
    cost = format_usd(line.nano_usd)
    adjusted = line.month != invoice.month
    return {
        **_common(invoice, line.month),
        "BilledCost": decimal(line.cents),
        "ChargeCategory": "Usage",
        "ChargeClass": "Correction" if adjusted else "",
        "ChargeDescription": (
            f"{line.deployment}, {line.tier_billed or 'free'} tier, {line.sla_tier}, card"
            f" {line.card_version}" + (f", used in {line.month}" if adjusted else "")
        ),
        "ChargeFrequency": "Usage-Based",
        "ConsumedQuantity": str(tokens),
        "ConsumedUnit": "Tokens",
        "ContractedCost": cost,
        "ContractedUnitPrice": rate,
        "EffectiveCost": cost,
        "ListCost": cost,
        "ListUnitPrice": rate,
        "PricingCategory": "Standard",
        "PricingQuantity": f"{tokens // 1_000_000}.{tokens % 1_000_000:06d}",
        "PricingUnit": "1000000 Tokens",
        "ResourceId": line.deployment,
        "ResourceName": line.deployment,
        "ResourceType": "Deployment",
        "SkuId": f"{line.tier_billed or 'free'}/{line.sla_tier}",
        "SkuMeter": "Tokens",
        "SkuPriceId": f"card-{line.card_version}/{line.tier_billed or 'free'}/{line.sla_tier}",
    }


def _flat_row(invoice: Invoice, category: str, text: str, cents: int) -> dict[str, str]:
    return {
        **_common(invoice, invoice.month),
        "BilledCost": decimal(cents),
        "ChargeCategory": category,
        "ChargeDescription": text,
        "ChargeFrequency": "One-Time",
        "ContractedCost": decimal(cents),
        "EffectiveCost": decimal(cents),
        "ListCost": decimal(cents),
    }


def _common(invoice: Invoice, month: str) -> dict[str, str]:
    return {
        **dict.fromkeys(COLUMNS, ""),
        "BillingAccountId": invoice.account,
        "BillingAccountName": invoice.customer.legal_name or invoice.account,
        "BillingAccountType": "Account",
        "BillingCurrency": invoice.currency,
        "BillingPeriodEnd": _iso(month_end_unix_ms(invoice.month)),
        "BillingPeriodStart": _iso(month_start_unix_ms(invoice.month)),
        "ChargePeriodEnd": _iso(month_end_unix_ms(month)),
        "ChargePeriodStart": _iso(month_start_unix_ms(month)),
        "InvoiceId": invoice.number,
        "InvoiceIssuerName": invoice.seller.legal_name or _PROVIDER,
        "PricingCurrency": invoice.currency,
        "ProviderName": _PROVIDER,
        "PublisherName": _PROVIDER,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "EdgeForge inference",
        "ServiceSubcategory": "Generative AI",
    }


def decimal(cents: int) -> str:
    """Return dollars with two decimals: "-0.05"."""
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // _CENT_PARTS}.{abs(cents) % _CENT_PARTS:02d}"


def _iso(unix_ms: int) -> str:
    return f"{datetime.fromtimestamp(unix_ms // 1_000, UTC):%Y-%m-%dT%H:%M:%SZ}"
