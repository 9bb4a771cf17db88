"""Collects what is owed: charges invoices, records payments once, and steps through dunning."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from coordinator.billing import account_credits, customers, invoices, reversals
from coordinator.billing.payments import Charge, Charged, ChargeState, PaymentEvent, ReversalState
from coordinator.core import dunning, ledger
from coordinator.core.grants import CreditKind
from coordinator.core.ledger import NANO_PER_CENT
from protos.domain.errors import Conflict, InvalidRequest, LinkDown

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from coordinator.billing.payments import PaymentProvider
    from coordinator.core.dunning import DunningPolicy
    from coordinator.usage.database import UsageDatabase

#: Smallest and largest top-up: Stripe refuses less than 50 cents.
MIN_CENTS, MAX_CENTS = 50, 10_000_000
_UNDECIDED = (ChargeState.SENDING.value, ChargeState.PENDING.value)
_SHOWN = {
    ReversalState.REFUNDED: ChargeState.REFUNDED,
    ReversalState.DISPUTED: ChargeState.DISPUTED,
    ReversalState.LOST: ChargeState.DISPUTED,
    ReversalState.WON: ChargeState.SUCCEEDED,
}
#: Events of webhooks are remembered for so long; their signatures are valid for minutes.
EVENTS_KEPT_MS = 90 * 24 * 3_600_000
#: A charge that was begun earlier may have been made, and its key forgotten: Stripe keeps keys for
#: a day. It is looked for before it is asked for again.
KEYS_HOLD_MS = 20 * 3_600_000
#: Charges that a pass of the clock begins.
_MAX_DUE = 100


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment, by its idempotency key. ``number``: of an invoice; empty: a top-up."""

    key: str
    account: str
    number: str
    cents: int
    state: ChargeState
    created_unix_ms: int
    provider_id: str = ""
    error: str = ""


class Collection:
    """Charges by a provider and records the outcome in the books."""

    def __init__(
        self,
        database: UsageDatabase,
        provider: PaymentProvider,
        policy: DunningPolicy,
        now_unix_ms: Callable[[], int],
    ) -> None:
        self._database = database
        self.provider = provider
        self._policy = policy
        self._now_unix_ms = now_unix_ms

    async def customer_of(self, account: str) -> str:
        """Return the provider's id of an account, made if there is none yet."""
        known = await self._database.read(lambda one: customers.load(one, account))
        if known.provider_customer:
            return known.provider_customer
        made = await self.provider.create_customer(account, known.legal_name, known.email)

        def write(connection: sqlite3.Connection) -> str:
            latest = customers.load(connection, account)
            kept = latest.provider_customer or made
            customers.save(connection, replace(latest, provider_customer=kept))
            return kept

        return await self._database.write(write)

    async def charge_invoice(self, number: str) -> Payment:
        """Charge what is open of an invoice. Raises: Conflict, InvalidRequest, NotFound, LinkDown.

        A charge whose outcome is not known is asked for again under its own key.
        """
        row = await self._database.read(lambda one: invoices.find(one, number))
        # Before anything is written down: without a provider there is nothing to begin.
        customer = await self.customer_of(row.invoice.account)
        now = self._now_unix_ms()
        begun = await self._database.write(lambda one: _begin_invoice(one, number, now))
        return await self._perform(begun, customer, f"invoice {number}")

    async def top_up(self, account: str, cents: int) -> Payment:
        """Charge a card for prepaid credit. Raises: as ``charge_invoice``."""
        if not MIN_CENTS <= cents <= MAX_CENTS:
            raise InvalidRequest(
                f"a top-up is {MIN_CENTS} to {MAX_CENTS} cents", "give another amount"
            )
        customer = await self.customer_of(account)
        now = self._now_unix_ms()
        begun = await self._database.write(lambda one: _begin_top_up(one, account, cents, now))
        return await self._perform(begun, customer, f"prepaid credit of {account}")

    async def record(self, key: str, charged: Charged) -> Payment:
        """Record an outcome; one that was recorded already changes nothing."""
        now, policy = self._now_unix_ms(), self._policy
        return await self._database.write(lambda one: settle(one, key, charged, now, policy))

    async def accept(self, event: PaymentEvent) -> bool:
        """Take a provider's event, once; returns whether it was new."""
        now, policy = self._now_unix_ms(), self._policy

        def write(connection: sqlite3.Connection) -> bool:
            connection.execute(
                "DELETE FROM payment_events WHERE received_unix_ms < ?", (now - EVENTS_KEPT_MS,)
            )
            new = connection.execute(
                "INSERT INTO payment_events VALUES (?, ?) ON CONFLICT DO NOTHING", (event.id, now)
            ).rowcount
            if new and event.charged is not None and event.key:
                settle(connection, event.key, event.charged, now, policy)
            if new and event.reversal is not None:
                reversals.note(connection, event.reversal, now, EVENTS_KEPT_MS)
                _follow_reversals(connection, event.reversal.provider_id, now)
            return bool(new)

        return await self._database.write(write)

    async def charge_due(self) -> list[Payment]:
        """Charge the invoices whose next attempt has come."""
        now = self._now_unix_ms()
        done = []
        for number in await self._database.read(lambda one: _due(one, now)):
            try:
                done.append(await self.charge_invoice(number))
            except (LinkDown, Conflict, InvalidRequest):
                continue  # it is due still, in the next pass
        return done

    async def _perform(self, payment: Payment, customer: str, description: str) -> Payment:
        charge, charged = Charge(payment.key, customer, payment.cents, description), None
        if self._now_unix_ms() - payment.created_unix_ms > KEYS_HOLD_MS:
            charged = await self.provider.find(charge)
        if charged is None:
            charged = await self.provider.charge(charge)
        return await self.record(payment.key, charged)


def _begin_invoice(connection: sqlite3.Connection, number: str, now_unix_ms: int) -> Payment:
    row = invoices.find(connection, number)
    if row.kind != invoices.INVOICE or row.open_cents == 0:
        raise InvalidRequest(
            f"nothing is open of {number}", "`edgeforge payment status` shows what is"
        )
    account = row.invoice.account
    open_payment = _undecided(connection, account, number)
    if open_payment is not None:
        return open_payment
    (tries,) = connection.execute(
        "SELECT count(*) FROM payments WHERE number = ?", (number,)
    ).fetchone()
    return _begin(connection, f"{number}-{tries + 1}", account, number, row.open_cents, now_unix_ms)


def _begin_top_up(
    connection: sqlite3.Connection, account: str, cents: int, now_unix_ms: int
) -> Payment:
    open_payment = _undecided(connection, account, "")
    if open_payment is not None:
        if open_payment.cents == cents:
            return open_payment
        raise Conflict(
            f"a top-up of {open_payment.cents} cents is under way", "ask for it again or wait"
        )
    account_credits.require_room(connection, account)
    (tries,) = connection.execute(
        "SELECT count(*) FROM payments WHERE account = ?", (account,)
    ).fetchone()
    return _begin(connection, f"topup-{account}-{tries + 1}", account, "", cents, now_unix_ms)


def _begin(
    connection: sqlite3.Connection,
    key: str,
    account: str,
    number: str,
    cents: int,
    now_unix_ms: int,
) -> Payment:
    made = Payment(key, account, number, cents, ChargeState.SENDING, now_unix_ms)
    connection.execute(
        "INSERT INTO payments (key, provider_id, account, number, cents, state, created_unix_ms,"
        " error) VALUES (?, '', ?, ?, ?, ?, ?, '')",
        (key, account, number, cents, made.state.value, now_unix_ms),
    )
    return made


def _undecided(connection: sqlite3.Connection, account: str, number: str) -> Payment | None:
    for one in payments_of(connection, account):
        if one.number == number and one.state.value in _UNDECIDED:
            if one.state is ChargeState.PENDING:
                raise Conflict(f"payment {one.key} is pending at the provider", "wait for it")
            return one
    return None


def payments_of(connection: sqlite3.Connection, account: str) -> list[Payment]:
    """Return the payments of an account, the newest first."""
    return [
        _as_shown(
            Payment(key, owner, number, cents, ChargeState(state), created, provider_id, error),
            reversal,
            reversed_cents,
            owed,
        )
        for (
            *(key, owner, number, cents, state, created, provider_id, error),
            reversal,
            reversed_cents,
            owed,
        ) in connection.execute(
            "SELECT key, account, number, cents, state, created_unix_ms, provider_id, error,"
            " reversal, reversed_cents, owed_nano_usd FROM payments WHERE account = ?"
            " ORDER BY created_unix_ms DESC, key DESC LIMIT 1000",
            (account,),
        )
    ]


def _as_shown(payment: Payment, reversal: str, reversed_cents: int, owed_nano_usd: int) -> Payment:
    """Return a payment as it stands after what went back of it."""
    if not reversal:
        return payment
    said = [f"{reversed_cents} of {payment.cents} cents went back"] if reversed_cents else []
    if owed_nano_usd:
        said.append(f"{-(-owed_nano_usd // NANO_PER_CENT)} cents of it are owed")
    state = _SHOWN[ReversalState(reversal)]
    return replace(payment, state=state, error=", ".join(said))


def settle(
    connection: sqlite3.Connection,
    key: str,
    charged: Charged,
    now_unix_ms: int,
    policy: DunningPolicy,
) -> Payment:
    """Record the outcome of a payment, and post what was paid. Success is recorded once.

    Raises: InvalidRequest for a payment that is not known.
    """
    row = connection.execute(
        "SELECT account, number, cents, state, created_unix_ms FROM payments WHERE key = ?", (key,)
    ).fetchone()
    if row is None:
        raise InvalidRequest(f"there is no payment {key[:80]!a}")
    account, number, cents, state, created = row
    payment = Payment(key, account, number, cents, ChargeState(state), created)
    if payment.state is ChargeState.SUCCEEDED or payment.state is charged.state:
        return payment
    if payment.state is ChargeState.FAILED and charged.state is ChargeState.PENDING:
        return payment  # told late: events have no order
    connection.execute(
        "UPDATE payments SET state = ?, provider_id = ?, error = ? WHERE key = ?",
        (charged.state.value, charged.provider_id, charged.error, key),
    )
    if charged.state is ChargeState.SUCCEEDED:
        _take_payment(connection, payment, cents, now_unix_ms)
        _follow_reversals(connection, charged.provider_id, now_unix_ms)
    elif charged.state is ChargeState.FAILED and number:
        _failed(connection, number, charged.error, policy)
    return replace(
        payment, state=charged.state, provider_id=charged.provider_id, error=charged.error
    )


def _take_payment(
    connection: sqlite3.Connection, payment: Payment, cents: int, now_unix_ms: int
) -> None:
    """Post money of a payment that came in, and remember what of it went to its invoice."""
    to_invoice = paid(
        connection,
        *(payment.account, payment.number, cents, now_unix_ms, ledger.CASH_STRIPE, payment.key),
    )
    connection.execute(
        "UPDATE payments SET invoice_cents = invoice_cents + ? WHERE key = ?",
        (to_invoice, payment.key),
    )


def _follow_reversals(connection: sqlite3.Connection, provider_id: str, now_unix_ms: int) -> None:
    """Take back what went back of a payment; money of a dispute that was won comes in again."""
    back = reversals.follow(connection, provider_id, now_unix_ms)
    if back is not None:
        again = Payment(
            back.key, back.account, back.number, back.cents, ChargeState.SUCCEEDED, now_unix_ms
        )
        _take_payment(connection, again, back.cents, now_unix_ms)


def paid(
    connection: sqlite3.Connection,
    account: str,
    number: str,
    cents: int,
    now_unix_ms: int,
    cash: str,
    reference: str,
) -> int:
    """Post money that came in; returns the cents that paid the invoice.

    To the invoice as far as it is open, then to what is owed for reversed payments; the rest is
    prepaid.
    """
    open_cents = invoices.find(connection, number).open_cents if number else 0
    to_invoice = min(cents, open_cents)
    if to_invoice:
        connection.execute(
            "UPDATE settlements SET open_cents = open_cents - ?, last_error = '' WHERE number = ?",
            (to_invoice, number),
        )
        nano_usd = to_invoice * NANO_PER_CENT
        account_credits.pay(connection, account, nano_usd, now_unix_ms, cash, reference)
    rest_nano = (cents - to_invoice) * NANO_PER_CENT
    rest_nano -= reversals.pay_owed(connection, account, rest_nano, now_unix_ms, cash, reference)
    if rest_nano:
        why = "top-up" if not number else f"paid over what was open of {number}"
        new = account_credits.NewCredit(
            *(account, CreditKind.PREPAID, rest_nano, why, "billing"),
            cash_account=cash,
            reference=reference,
        )
        account_credits.take_in(connection, new, now_unix_ms)
    return to_invoice


def paid_otherwise(
    connection: sqlite3.Connection, number: str, now_unix_ms: int, reference: str
) -> int:
    """Post what is open of an invoice as paid by other means; returns the cents.

    Raises: InvalidRequest, NotFound.
    """
    row = invoices.find(connection, number)
    if not row.open_cents:
        raise InvalidRequest(
            f"nothing is open of {number}", "`edgeforge payment status` shows what is"
        )
    about, account = f"{number}: {reference}", row.invoice.account
    paid(connection, account, number, row.open_cents, now_unix_ms, ledger.CASH_MANUAL, about)
    return row.open_cents


def _failed(connection: sqlite3.Connection, number: str, error: str, policy: DunningPolicy) -> None:
    attempts, due = connection.execute(
        "SELECT attempts + 1, due_unix_ms FROM settlements WHERE number = ?", (number,)
    ).fetchone()
    after = dunning.next_attempt_unix_ms(due, attempts, policy)
    connection.execute(
        "UPDATE settlements SET attempts = ?, next_attempt_unix_ms = ?, last_error = ?"
        " WHERE number = ?",
        (attempts, 2**62 if after is None else after, error, number),
    )


def _due(connection: sqlite3.Connection, now_unix_ms: int) -> list[str]:
    return [
        number
        for (number,) in connection.execute(
            "SELECT number FROM settlements WHERE open_cents > 0 AND next_attempt_unix_ms <= ?"
            " ORDER BY next_attempt_unix_ms LIMIT ?",
            (now_unix_ms, _MAX_DUE),
        )
    ]
