"""The port to a payment provider, and the provider that is none."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Protocol

from protos.domain.errors import InvalidRequest


class ChargeState(enum.StrEnum):
    """How far a payment is. SENDING: it is not known whether the provider has it."""

    SENDING = "sending"
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    #: It succeeded, and went back in part or whole. Shown only: it is never the state of a charge.
    REFUNDED = "refunded"
    DISPUTED = "disputed"


class ReversalState(enum.StrEnum):
    """How money goes back. WON: a dispute that took nothing in the end."""

    REFUNDED = "refunded"
    DISPUTED = "disputed"
    WON = "won"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Charge:
    """An amount to be charged to a customer's stored card.

    ``key`` is the idempotency key: the same key never charges twice within a day of the first time.
    """

    key: str
    customer: str
    cents: int
    description: str


@dataclass(frozen=True, slots=True)
class Charged:
    """What the provider says of a charge."""

    state: ChargeState
    provider_id: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class CardSetup:
    """A card that is to be stored: the customer's browser confirms it with the secret."""

    setup_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reversal:
    """Money of a payment that goes back.

    ``id`` is of the dispute, or of all refunds of a charge; ``cents`` is all of it until now.
    ``provider_id`` is the payment's.
    """

    id: str
    provider_id: str
    cents: int
    state: ReversalState


@dataclass(frozen=True, slots=True)
class PaymentEvent:
    """What a provider tells by webhook; neither of both: nothing about a charge of ours."""

    id: str
    key: str
    charged: Charged | None
    reversal: Reversal | None = None


class PaymentProvider(Protocol):
    """Stores cards and charges them. Every call may wait; each has a deadline.

    Raises: LinkDown when the provider cannot be asked, so that nothing is known.
    """

    name: str

    async def create_customer(self, account: str, name: str, email: str) -> str:
        """Return the provider's id of a customer, the same for the same account."""
        ...

    async def set_up_card(self, customer: str) -> CardSetup:
        """Begin to store a card."""
        ...

    async def has_card(self, customer: str) -> bool:
        """Return whether a card is stored."""
        ...

    async def charge(self, charge: Charge) -> Charged:
        """Charge the stored card."""
        ...

    async def find(self, charge: Charge) -> Charged | None:
        """Return what became of a charge that was sent long ago; None: the provider has none."""
        ...

    def event_of(self, payload: bytes, signature: str) -> PaymentEvent:
        """Return a webhook's event. Raises: Unauthenticated for a forged or replayed one."""
        ...


class NoPayments:
    """Nothing is charged: invoices are paid by other means and marked so."""

    name = "none"

    async def create_customer(self, account: str, name: str, email: str) -> str:
        """Refuse."""
        raise _no_provider()

    async def set_up_card(self, customer: str) -> CardSetup:
        """Refuse."""
        raise _no_provider()

    async def has_card(self, customer: str) -> bool:
        """Return that there is none."""
        return False

    async def charge(self, charge: Charge) -> Charged:
        """Refuse."""
        raise _no_provider()

    async def find(self, charge: Charge) -> Charged | None:
        """Refuse."""
        raise _no_provider()

    def event_of(self, payload: bytes, signature: str) -> PaymentEvent:
        """Refuse."""
        raise _no_provider()


def _no_provider() -> InvalidRequest:
    return InvalidRequest(
        "no payment provider is configured", 'set provider = "stripe" in [payments]'
    )
