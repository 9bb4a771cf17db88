"""The sections of the configuration about invoices, payments and mail."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.core.tax import check_vat_id, parse_rates
from protos.domain.errors import InvalidRequest
from protos.domain.settings import setting

_LARGEST_GRACE_DAYS = 27


@dataclass(frozen=True, slots=True)
class BillingSection:
    """``[billing]``: when months are closed, who sells, taxes, dunning."""

    #: Day of the next month, UTC, from which the days of grace count.
    close_day: int = setting(1, at_least=1, at_most=28)
    #: Days that late usage of a month is waited for; what comes later adjusts the next invoice.
    grace_days: int = setting(3, at_least=0, at_most=_LARGEST_GRACE_DAYS)
    #: Days from the issue of an invoice until it is due.
    due_days: int = setting(14, at_least=0, at_most=90)
    #: Days overdue until new requests that would add to what is owed are refused.
    limited_days: int = setting(7, at_least=1, at_most=365)
    #: Days overdue until all new requests are refused.
    suspended_days: int = setting(21, at_least=1, at_most=365)
    #: How long an expired credit still pays for usage from before its expiry that comes late.
    credit_settle_s: float = setting(3_600.0, at_least=0, at_most=2_592_000)
    #: How often months, credits, payments and alerts are looked at.
    tick_s: float = setting(30.0, at_least=0.05, at_most=3_600)
    #: The seller as printed on invoices.
    seller_name: str = setting("")
    #: Its address; lines are separated by |.
    seller_address: str = setting("")
    #: Its country, two letters.
    seller_country: str = setting("")
    #: Its VAT id.
    seller_vat_id: str = setting("")
    #: Its address for questions.
    seller_email: str = setting("")
    #: Tax lines: none, or VAT by tax_rates.
    tax: str = setting("none", choices=("none", "vat"))
    #: Rates of VAT by the customer's country, such as "DE=19, FR=20".
    tax_rates: str = setting("")
    #: Send webhooks to private addresses and over plain HTTP too; for tests and closed networks.
    allow_private_webhooks: bool = setting(False)


@dataclass(frozen=True, slots=True)
class PaymentsSection:
    """``[payments]``: who charges cards."""

    #: The provider.
    provider: str = setting("none", choices=("none", "stripe"))
    #: File with Stripe's secret API key, readable by its owner only.
    stripe_key_file: str = setting("")
    #: Stripe's publishable API key, which customers' browsers store cards with.
    stripe_publishable_key: str = setting("")
    #: File with the secret of the webhook endpoint, readable by its owner only.
    stripe_webhook_secret_file: str = setting("")
    #: Where Stripe's API is.
    stripe_api_base: str = setting("https://api.stripe.com")
    #: Longest wait for an answer.
    timeout_s: float = setting(20.0, at_least=0.1, at_most=120)


@dataclass(frozen=True, slots=True)
class SmtpSection:
    """``[smtp]``: the server that mail is handed to."""

    #: Its host; empty: no mail is sent.
    host: str = setting("")
    #: Its port.
    port: int = setting(587, at_least=1, at_most=65_535)
    #: STARTTLS, TLS from the first byte, or none.
    tls: str = setting("starttls", choices=("starttls", "tls", "none"))
    #: The user; empty: no login.
    user: str = setting("")
    #: File with the password, readable by its owner only.
    password_file: str = setting("")
    #: File with authorities of the server's certificate, PEM; empty: the system's.
    ca_file: str = setting("")
    #: From address of all mail.
    sender: str = setting("")
    #: Longest wait for the server.
    timeout_s: float = setting(20.0, at_least=0.1, at_most=120)


def check_billing(
    billing: BillingSection, payments: PaymentsSection, smtp: SmtpSection
) -> list[str]:
    """Return mistakes between keys that are valid one by one."""
    problems = []
    if billing.suspended_days <= billing.limited_days:
        problems.append("billing.suspended_days: is not above limited_days")
    if billing.close_day - 1 + billing.grace_days > _LARGEST_GRACE_DAYS:
        problems.append("billing.grace_days: a month would be closed after the next one has ended")
    for key, text, check in (
        ("billing.seller_vat_id", billing.seller_vat_id, check_vat_id),
        ("billing.tax_rates", billing.tax_rates, parse_rates),
    ):
        try:
            check(text)
        except InvalidRequest as error:
            problems.append(f"{key}: {error.message}")
    if billing.tax == "vat" and not (billing.seller_country and billing.tax_rates):
        problems.append("billing.tax: vat needs seller_country and tax_rates")
    if payments.provider == "stripe":
        problems += [
            f"payments.{key}: is required by stripe"
            for key in ("stripe_key_file", "stripe_webhook_secret_file")
            if not getattr(payments, key)
        ]
    if not payments.stripe_api_base.startswith(("https://", "http://127.0.0.1:")):
        problems.append("payments.stripe_api_base: is no https:// address")
    if smtp.host and "@" not in smtp.sender:
        problems.append("smtp.sender: is required with smtp.host")
    if smtp.user and (not smtp.password_file or smtp.tls == "none"):
        problems.append("smtp.user: needs password_file, and TLS")
    return problems
