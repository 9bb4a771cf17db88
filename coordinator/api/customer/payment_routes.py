"""Routes about credits, the spending cap and payments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from coordinator.api.customer.invoice_routes import InvoiceSummary, summary_of
from coordinator.api.customer.route import Call, Model, Route
from coordinator.core.ledger import NANO_PER_CENT
from coordinator.operations.acts import Act
from coordinator.operations.credits import MAX_CAP_NANO_USD

if TYPE_CHECKING:
    from coordinator.billing.collection import Payment


class CreditAnswer(Model):
    """A grant, or money that was paid in advance."""

    id: int
    kind: str
    amount_nano_usd: int
    remaining_nano_usd: int
    created_unix_ms: int
    expires_unix_ms: int = Field(description="0: never.")
    reason: str


class CreditList(Model):
    """Credits, the newest first."""

    items: list[CreditAnswer]


class PaymentAnswer(Model):
    """A payment."""

    key: str
    invoice: str = Field(description="Empty: a top-up of prepaid credit.")
    cents: int
    state: str
    created_unix_ms: int
    error: str


class SpendingCapBody(Model):
    """The account's own bound of a calendar month, UTC."""

    monthly_cents: Annotated[int, Field(ge=0, le=MAX_CAP_NANO_USD // NANO_PER_CENT)] = Field(
        description="0: none of its own."
    )


class SpendingCapAnswer(Model):
    """The caps of a calendar month; 0: none. The lower one of both holds."""

    own_nano_usd: int = Field(description="The account's own.")
    operators_nano_usd: int = Field(description="What the provider has set.")
    holds_nano_usd: int = Field(description="New requests are refused from here on.")


class PaymentStatusAnswer(Model):
    """How the account stands."""

    state: str
    provider: str
    has_card: bool | None = Field(description="Null: the payment provider could not be asked.")
    prepaid: bool
    cap_nano_usd: int = Field(description="That holds for a month; 0: none.")
    remaining_nano_usd: int | None = Field(description="Of the balance or cap; null: unlimited.")
    open_invoices: list[InvoiceSummary]
    payments: list[PaymentAnswer]


class CardSetupAnswer(Model):
    """For the customer's browser, which stores the card at the provider."""

    setup_id: str
    client_secret: str = Field(
        repr=False, description="With which the browser confirms the card, once."
    )
    publishable_key: str = Field(description="Of the payment provider; empty: ask for it.")


class ChargeBody(Model):
    """What is charged to the stored card: an invoice, or a top-up."""

    invoice: str = Field("", max_length=40)
    top_up_cents: Annotated[int, Field(ge=0, le=100_000_000)] = 0


async def _credits(call: Call) -> CreditList:
    found = await call.operations.credits.list_all(call.actor)
    return CreditList(
        items=[
            CreditAnswer(
                id=one.credit.id,
                kind=str(one.credit.kind),
                amount_nano_usd=one.amount_nano_usd,
                remaining_nano_usd=one.credit.remaining_nano_usd,
                created_unix_ms=one.credit.created_unix_ms,
                expires_unix_ms=one.credit.expires_unix_ms,
                reason=one.reason,
            )
            for one in found
        ]
    )


def _payment(one: Payment) -> PaymentAnswer:
    return PaymentAnswer(
        key=one.key,
        invoice=one.number,
        cents=one.cents,
        state=str(one.state),
        created_unix_ms=one.created_unix_ms,
        error=one.error,
    )


async def _status(call: Call) -> PaymentStatusAnswer:
    found = await call.operations.payments.status(call.actor)
    customer = found.customer
    return PaymentStatusAnswer(
        state=found.state,
        provider=found.provider,
        has_card=found.has_card,
        prepaid=customer.prepaid,
        cap_nano_usd=customer.bound_nano_usd,
        remaining_nano_usd=found.remaining_nano_usd,
        open_invoices=[summary_of(one) for one in found.open_invoices],
        payments=[_payment(one) for one in found.payments],
    )


async def _set_cap(call: Call) -> SpendingCapAnswer:
    cents = call.given(SpendingCapBody).monthly_cents
    kept = await call.operations.credits.set_own_cap(call.actor, cap_nano_usd=cents * NANO_PER_CENT)
    return SpendingCapAnswer(
        own_nano_usd=kept.own_cap_nano_usd,
        operators_nano_usd=kept.cap_nano_usd,
        holds_nano_usd=kept.bound_nano_usd,
    )


async def _set_up(call: Call) -> CardSetupAnswer:
    made = await call.operations.payments.set_up(call.actor)
    return CardSetupAnswer(
        setup_id=made.setup_id,
        client_secret=made.client_secret,
        publishable_key=call.services.publishable_key,
    )


async def _charge(call: Call) -> PaymentAnswer:
    body = call.given(ChargeBody)
    made = await call.operations.payments.charge(
        call.actor, "", number=body.invoice, top_up_cents=body.top_up_cents
    )
    return _payment(made)


ROUTES = (
    Route(
        "GET",
        "/v1/credits",
        "list_credits",
        "List grants and prepaid credit.",
        _credits,
        Act.CREDIT_LIST,
        CreditList,
    ),
    Route(
        "PUT",
        "/v1/spending-cap",
        "set_spending_cap",
        "Set the account's own cap of a month; what the provider has set stays as it is.",
        _set_cap,
        Act.ACCOUNT_OWN_CAP,
        SpendingCapAnswer,
        body=SpendingCapBody,
    ),
    Route(
        "GET",
        "/v1/payments",
        "show_payments",
        "Show how the account stands: what is open, what was paid, what remains.",
        _status,
        Act.PAYMENT_STATUS,
        PaymentStatusAnswer,
    ),
    Route(
        "POST",
        "/v1/payments:set-up",
        "set_up_card",
        "Begin to store a card.",
        _set_up,
        Act.PAYMENT_SETUP,
        CardSetupAnswer,
        201,
    ),
    Route(
        "POST",
        "/v1/payments",
        "charge",
        "Charge an invoice, or a top-up of prepaid credit, to the stored card.",
        _charge,
        Act.PAYMENT_CHARGE,
        PaymentAnswer,
        201,
        ChargeBody,
    ),
)
