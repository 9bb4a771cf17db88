"""Payments by Stripe: the library's calls in threads, at most a few at once."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import stripe

from coordinator.billing.payments import (
    CardSetup,
    Charge,
    Charged,
    ChargeState,
    PaymentEvent,
    Reversal,
    ReversalState,
)
from coordinator.billing.secret_files import read_secret
from protos.domain.errors import LinkDown, Unauthenticated

T = TypeVar("T")

_log = logging.getLogger(__name__)

MAX_CALLS: Final = 4
#: Of a webhook's signature; Stripe's own default.
TOLERANCE_S: Final = 300
_MAX_ERROR_CHARS: Final = 300
_NETWORK_RETRIES: Final = 2
_OUTCOMES: Final = {
    "payment_intent.succeeded": ChargeState.SUCCEEDED,
    "payment_intent.payment_failed": ChargeState.FAILED,
    "payment_intent.processing": ChargeState.PENDING,
}
_REFUNDED: Final = "charge.refunded"
_DISPUTE: Final = "charge.dispute."
#: By a dispute's status; the others are inquiries (``warning_*``), which take no money.
_DISPUTES: Final = {
    "needs_response": ReversalState.DISPUTED,
    "under_review": ReversalState.DISPUTED,
    "won": ReversalState.WON,
    "lost": ReversalState.LOST,
}
#: Stands for all of a payment; what goes back is never more than was paid.
_ALL_CENTS: Final = 2**53


class StripePayments:
    """Implements ``payments.PaymentProvider``."""

    name = "stripe"

    def __init__(
        self, api_key: str, webhook_secret: str, *, api_base: str, timeout_s: float
    ) -> None:
        self._client = stripe.StripeClient(
            api_key,
            base_addresses={"api": api_base},
            max_network_retries=_NETWORK_RETRIES,
            http_client=stripe.RequestsClient(timeout=timeout_s),
        )
        self._webhook_secret = webhook_secret
        self._calls = asyncio.Semaphore(MAX_CALLS)

    async def create_customer(self, account: str, name: str, email: str) -> str:
        """Return the id of a customer; asked again soon, the same one."""
        params: dict[str, Any] = {"description": name or account, "metadata": {"account": account}}
        if email:
            params["email"] = email
        options: Any = {"idempotency_key": f"customer-{account}"}
        made = await self._call(
            lambda: self._client.v1.customers.create(params=_any(params), options=options)
        )
        return str(made.id)

    async def set_up_card(self, customer: str) -> CardSetup:
        """Begin a SetupIntent for later charges without the customer present."""
        params: Any = {"customer": customer, "usage": "off_session"}
        made = await self._call(lambda: self._client.v1.setup_intents.create(params=params))
        return CardSetup(str(made.id), str(made.client_secret))

    async def has_card(self, customer: str) -> bool:
        """Return whether a card is stored."""
        return bool(await self._card_of(customer))

    async def charge(self, charge: Charge) -> Charged:
        """Charge the newest card of a customer."""
        card = await self._card_of(charge.customer)
        if not card:
            return Charged(ChargeState.FAILED, "", "no card is stored")
        params: Any = {
            "amount": charge.cents,
            "currency": "usd",
            "customer": charge.customer,
            "payment_method": card,
            "confirm": True,
            "off_session": True,
            "metadata": {"edgeforge_key": charge.key, "about": charge.description},
        }
        options: Any = {"idempotency_key": charge.key}
        try:
            made = await self._call(
                lambda: self._client.v1.payment_intents.create(params=params, options=options)
            )
        except stripe.CardError as error:
            intent = getattr(error.error, "payment_intent", None)
            text = str(error.user_message or error.code or "the card was declined")
            return Charged(
                ChargeState.FAILED, str(getattr(intent, "id", "")), text[:_MAX_ERROR_CHARS]
            )
        return Charged(_state_of(made.status), str(made.id), _reason_of(made.status))

    async def find(self, charge: Charge) -> Charged | None:
        """Return the payment of a customer that has the key of ``charge``."""
        params: Any = {"customer": charge.customer, "limit": 100}

        def look() -> Charged | None:
            found: Any = self._client.v1.payment_intents.list(params=params)
            for one in found.auto_paging_iter():
                if getattr(one.metadata, "edgeforge_key", "") == charge.key:
                    return Charged(_state_of(one.status), str(one.id), _reason_of(one.status))
            return None

        return await self._call(look)

    def event_of(self, payload: bytes, signature: str) -> PaymentEvent:
        """Return a webhook's event. Raises: Unauthenticated."""
        try:
            stripe.Webhook.construct_event(payload, signature, self._webhook_secret, TOLERANCE_S)
            event = json.loads(payload)
        except (stripe.SignatureVerificationError, ValueError, KeyError) as error:
            raise Unauthenticated(
                f"the webhook is not Stripe's, or is an old one: {error}"[:_MAX_ERROR_CHARS]
            ) from None
        about, state = event["data"]["object"], _OUTCOMES.get(event["type"])
        if state is None:
            return PaymentEvent(event["id"], "", None, _reversal_of(event["type"], about))
        key = str((about.get("metadata") or {}).get("edgeforge_key", ""))
        problem = about.get("last_payment_error") or {}
        text = str(problem.get("message", ""))[:_MAX_ERROR_CHARS]
        return PaymentEvent(event["id"], key, Charged(state, str(about["id"]), text))

    async def _card_of(self, customer: str) -> str:
        params: Any = {"customer": customer, "type": "card"}
        found = await self._call(lambda: self._client.v1.payment_methods.list(params=params))
        return str(found.data[0].id) if found.data else ""

    async def _call(self, call: Callable[[], T]) -> T:
        async with self._calls:
            try:
                return await asyncio.to_thread(call)
            except stripe.CardError:
                raise
            except stripe.AuthenticationError as error:
                raise LinkDown(
                    "Stripe refused the API key", "check payments.stripe_key_file", retryable=False
                ) from error
            except stripe.StripeError as error:
                _log.warning("stripe: %s", type(error).__name__)
                text = str(error.user_message or type(error).__name__)[:_MAX_ERROR_CHARS]
                raise LinkDown(f"Stripe could not be asked: {text}", "it is tried again") from error


def open_stripe(
    key_file: Path, webhook_secret_file: Path, *, api_base: str, timeout_s: float
) -> StripePayments:
    """Return the provider, with the secrets of two files. Raises: ConfigInvalid."""
    return StripePayments(
        read_secret(key_file, "payments.stripe_key_file"),
        read_secret(webhook_secret_file, "payments.stripe_webhook_secret_file"),
        api_base=api_base.rstrip("/"),
        timeout_s=timeout_s,
    )


def _state_of(status: str) -> ChargeState:
    if status == "succeeded":
        return ChargeState.SUCCEEDED
    return ChargeState.PENDING if status == "processing" else ChargeState.FAILED


def _reversal_of(kind: str, about: dict[str, Any]) -> Reversal | None:
    """Return what goes back by an event about a charge or a dispute; None: nothing of ours."""
    intent = about.get("payment_intent")
    # Whoever set the account up to expand objects has the whole of it here.
    provider_id = str((intent.get("id") if isinstance(intent, dict) else intent) or "")
    if not provider_id:
        return None
    if kind == _REFUNDED:
        cents, state = int(about["amount_refunded"]), ReversalState.REFUNDED
    elif kind.startswith(_DISPUTE) and about.get("status") in _DISPUTES:
        # A dispute may be in the currency of the cardholder's bank.
        is_usd = about.get("currency") == "usd"
        cents, state = int(about["amount"]) if is_usd else _ALL_CENTS, _DISPUTES[about["status"]]
    else:
        return None
    return Reversal(str(about["id"]), provider_id, cents, state)


def _reason_of(status: str) -> str:
    if status == "requires_action":
        return "the bank asks the customer to confirm: store the card again"
    return "" if status in ("succeeded", "processing") else f"the payment is {status}"


def _any(value: object) -> Any:  # noqa: ANN401 - the library's typed dictionaries
    return value
