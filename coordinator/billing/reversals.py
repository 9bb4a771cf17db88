"""Payments that the provider takes back: refunds and disputes, and what is owed afterwards.

Amounts are cumulative, by refund and by dispute, so that events may be repeated, come in any order,
and come before the payment is known to have succeeded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.billing import account_credits, books
from coordinator.billing.payments import ReversalState
from coordinator.core import grants, ledger
from coordinator.core.grants import CreditKind
from coordinator.core.ledger import NANO_PER_CENT

if TYPE_CHECKING:
    import sqlite3

    from coordinator.billing.payments import Reversal

#: An invoice whose payment went back is not charged by the clock again: whoever disputes a charge
#: disputes the next one too, and what was refunded on purpose is not to be taken again.
_NEVER_UNIX_MS = 2**62


@dataclass(frozen=True, slots=True)
class Restored:
    """Money that came back: a dispute was won."""

    key: str
    account: str
    number: str
    cents: int


@dataclass(frozen=True, slots=True)
class _Taken:
    """A payment of which more goes back: ``cents`` of it now."""

    key: str
    account: str
    number: str
    cents: int
    #: How much of ``cents`` had paid its invoice.
    invoice_cents: int
    why: str


def note(connection: sqlite3.Connection, told: Reversal, now_unix_ms: int, kept_ms: int) -> None:
    """Write down what a provider told. An amount never falls; a dispute that ended stays so."""
    connection.execute(
        "DELETE FROM payment_reversals WHERE received_unix_ms < ?"
        " AND provider_id NOT IN (SELECT provider_id FROM payments)",
        (now_unix_ms - kept_ms,),
    )
    connection.execute(
        "INSERT INTO payment_reversals VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " cents = max(cents, excluded.cents),"
        f" state = CASE state WHEN '{ReversalState.DISPUTED.value}' THEN excluded.state"
        " ELSE state END",
        (told.id, told.provider_id, told.cents, told.state.value, now_unix_ms),
    )


def follow(connection: sqlite3.Connection, provider_id: str, now_unix_ms: int) -> Restored | None:
    """Bring a payment to what was told of it; returns what its caller is to post as paid again.

    Nothing is done for a payment that is not known to have succeeded: its success asks again.
    """
    row = connection.execute(
        "SELECT key, account, number, cents, reversed_cents, invoice_cents FROM payments"
        " WHERE provider_id = ? AND state = 'succeeded'",
        (provider_id,),
    ).fetchone()
    told = connection.execute(
        "SELECT state, cents FROM payment_reversals WHERE provider_id = ?", (provider_id,)
    ).fetchall()
    if row is None or not told:
        return None
    key, account, number, paid_cents, before, invoice_cents = row
    states = {ReversalState(state) for state, _ in told}
    gone = sum(cents for state, cents in told if state != ReversalState.WON.value)
    gone = min(paid_cents, gone)
    # The strictest one is shown: a dispute says more than a refund.
    order = (ReversalState.DISPUTED, ReversalState.LOST, ReversalState.REFUNDED, ReversalState.WON)
    shown = next(one for one in order if one in states)
    connection.execute(
        "UPDATE payments SET reversed_cents = ?, reversal = ? WHERE key = ?",
        (gone, shown.value, key),
    )
    if gone < before:
        return Restored(key, account, number, before - gone)
    if gone > before:
        # What paid no invoice goes first: it is unspent, or was never asked for.
        to_invoice = max(0, gone - before - (paid_cents - before - invoice_cents))
        why = "refunded" if shown is ReversalState.REFUNDED else "disputed"
        _take_back(
            connection, _Taken(key, account, number, gone - before, to_invoice, why), now_unix_ms
        )
    return None


def _take_back(connection: sqlite3.Connection, taken: _Taken, now_unix_ms: int) -> None:
    """Take unspent credit, open the invoice again, and write down the rest as owed."""
    other_nano = (taken.cents - taken.invoice_cents) * NANO_PER_CENT
    left = account_credits.left_of(connection, taken.account)
    credit_nano = 0
    for one in grants.in_order(credit for credit in left if credit.kind is CreditKind.PREPAID):
        part = min(one.remaining_nano_usd, other_nano - credit_nano)
        if part:
            account_credits.lower(connection, grants.Use(one, part))
            credit_nano += part
    owed_nano = other_nano - credit_nano
    if taken.invoice_cents:
        connection.execute(
            "UPDATE settlements SET open_cents = open_cents + ?, attempts = 0,"
            " due_unix_ms = max(due_unix_ms, ?), next_attempt_unix_ms = ?, last_error = ?"
            " WHERE number = ?",
            (
                *(taken.invoice_cents, now_unix_ms, _NEVER_UNIX_MS),
                *(f"payment {taken.key} was {taken.why}", taken.number),
            ),
        )
    connection.execute(
        "UPDATE payments SET invoice_cents = invoice_cents - ?,"
        " owed_nano_usd = owed_nano_usd + ? WHERE key = ?",
        (taken.invoice_cents, owed_nano, taken.key),
    )
    books.append(
        connection,
        ledger.posting(
            "reversal",
            taken.account,
            account_credits.open_month(connection, now_unix_ms),
            now_unix_ms,
            (
                (ledger.prepaid(taken.account), credit_nano),
                (
                    ledger.receivable(taken.account),
                    owed_nano + taken.invoice_cents * NANO_PER_CENT,
                ),
                (ledger.CASH_STRIPE, -taken.cents * NANO_PER_CENT),
            ),
            taken.key,
        ),
    )


def pay_owed(
    connection: sqlite3.Connection,
    account: str,
    nano_usd: int,
    now_unix_ms: int,
    cash: str,
    reference: str,
) -> int:
    """Post money that came in to what is owed for reversed payments; returns how much it took."""
    left_nano = nano_usd
    owed = connection.execute(
        "SELECT key, owed_nano_usd FROM payments"
        " WHERE account = ? AND reversal <> '' AND owed_nano_usd > 0 ORDER BY created_unix_ms, key",
        (account,),
    ).fetchall()
    for key, owed_nano in owed:
        part = min(owed_nano, left_nano)
        connection.execute(
            "UPDATE payments SET owed_nano_usd = owed_nano_usd - ? WHERE key = ?", (part, key)
        )
        left_nano -= part
    if taken := nano_usd - left_nano:
        account_credits.pay(connection, account, taken, now_unix_ms, cash, reference)
    return taken


def limited(connection: sqlite3.Connection) -> frozenset[str]:
    """Return the accounts that spend only what is paid in advance.

    While a payment is disputed, and after that until what was lost is paid.
    """
    return frozenset(
        account
        for (account,) in connection.execute(
            "SELECT DISTINCT account FROM payments WHERE reversal <> '' AND (reversal = ?"
            " OR owed_nano_usd > 0 OR (reversal = ? AND number IN"
            " (SELECT number FROM settlements WHERE open_cents > 0)))",
            (ReversalState.DISPUTED.value, ReversalState.LOST.value),
        )
    )
