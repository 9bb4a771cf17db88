"""Billing, put together from the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from coordinator import clock
from coordinator.billing.billing import Billing, BillingParts
from coordinator.billing.invoices import InvoiceRules
from coordinator.billing.mail import Mailer, SmtpServer
from coordinator.billing.payments import NoPayments, PaymentProvider
from coordinator.billing.secret_files import read_secret
from coordinator.billing.webhooks import WebhookSender
from coordinator.core.dunning import DunningPolicy
from coordinator.core.invoice_rules import Party
from coordinator.core.months import ClosePolicy
from coordinator.core.tax import NoTax, TaxRule, VatTable, parse_rates

if TYPE_CHECKING:
    from coordinator.config import CoordinatorConfig
    from coordinator.sections.billing import BillingSection, SmtpSection
    from coordinator.store.store import Store
    from coordinator.usage.database import UsageDatabase
    from protos.domain.resources import CardTerms


def make_billing(config: CoordinatorConfig, database: UsageDatabase, store: Store) -> Billing:
    """Return billing, not started. Raises: ConfigInvalid for secrets that cannot be read."""
    billing = config.billing

    def terms_of(version: int) -> CardTerms | None:
        card = store.price_cards().get(version)
        return None if card is None else card.terms

    return Billing(
        BillingParts(
            database=database,
            store=store,
            rules=InvoiceRules(
                seller=seller_of(billing),
                tax=tax_of(billing),
                policy=ClosePolicy(billing.close_day, billing.grace_days, billing.due_days),
                terms_of=terms_of,
            ),
            dunning=DunningPolicy(billing.limited_days, billing.suspended_days),
            provider=_provider_of(config),
            webhooks=WebhookSender(clock.now_unix_ms, allow_private=billing.allow_private_webhooks),
            mailer=_mailer_of(config.smtp),
            now_unix_ms=clock.now_unix_ms,
            now_mono_ms=clock.now_mono_ms,
            tick_s=billing.tick_s,
            credit_settle_ms=int(billing.credit_settle_s * 1_000),
            allow_private_webhooks=billing.allow_private_webhooks,
        )
    )


def seller_of(billing: BillingSection) -> Party:
    """Return the seller as printed."""
    return Party(
        billing.seller_name or "EdgeForge",
        billing.seller_address.replace("|", "\n"),
        billing.seller_country,
        billing.seller_vat_id,
        billing.seller_email,
    )


def tax_of(billing: BillingSection) -> TaxRule:
    """Return the rule of taxes."""
    if billing.tax == "none":
        return NoTax()
    return VatTable(billing.seller_country, parse_rates(billing.tax_rates))


def _provider_of(config: CoordinatorConfig) -> PaymentProvider:
    payments = config.payments
    if payments.provider == "none":
        return NoPayments()
    # The library takes a quarter of a second to import: only where it is used.
    from coordinator.billing.stripe_payments import open_stripe

    return open_stripe(
        Path(payments.stripe_key_file),
        Path(payments.stripe_webhook_secret_file),
        api_base=payments.stripe_api_base,
        timeout_s=payments.timeout_s,
    )


def _mailer_of(smtp: SmtpSection) -> Mailer | None:
    if not smtp.host:
        return None
    password = ""
    if smtp.password_file:
        password = read_secret(Path(smtp.password_file), "smtp.password_file")
    server = SmtpServer(
        *(smtp.host, smtp.port, smtp.sender, smtp.tls, smtp.user, password),
        timeout_s=smtp.timeout_s,
        ca_file=smtp.ca_file,
    )
    return Mailer(server, clock.now_unix_ms)
