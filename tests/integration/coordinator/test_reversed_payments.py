"""Refunds and disputes: credit that is taken back, what is owed, and whom it limits."""

from __future__ import annotations

import itertools
import sqlite3
import time

import pytest

from coordinator.billing import account_credits, books, collection, customers, invoices, reversals
from coordinator.billing.payments import (
    Charged,
    ChargeState,
    PaymentEvent,
    Reversal,
    ReversalState,
)
from coordinator.billing.stripe_payments import StripePayments
from coordinator.core.months import DAY_MS
from coordinator.store import accounts
from coordinator.usage.migration import migrate
from coordinator.usage.migrations import ALL_MIGRATIONS
from protos.domain.customers import AccountState
from protos.domain.errors import Unauthenticated
from tests.support.billing import CENT, FEBRUARY, USD, usage
from tests.support.billing_service import billed_fleet
from tests.support.local_stripe import KEY, SECRET, signed

pytestmark = pytest.mark.integration

REFUNDED, DISPUTED = ReversalState.REFUNDED, ReversalState.DISPUTED
WON, LOST = ReversalState.WON, ReversalState.LOST


@pytest.fixture
async def fleet(tmp_path):
    async with billed_fleet(tmp_path) as found:
        yield found
        assert (await found.database.read(books.audit)).problems == []


async def top_up(fleet, cents: int, provider_id: str = "pi_1") -> str:
    fleet.provider.outcomes = [Charged(ChargeState.SUCCEEDED, provider_id)]
    made = await fleet.billing.collection.top_up("acme", cents)
    await fleet.billing.prepay("acme")
    return made.key


async def invoiced(fleet, cents: int = 100) -> str:
    await fleet.use(usage(nano_usd=cents * CENT))
    fleet.forward(29 * DAY_MS)
    (made,) = await fleet.billing.close_month("2028-02")
    return made.number


async def paid_invoice(fleet) -> str:
    number = await invoiced(fleet)
    fleet.provider.outcomes = [Charged(ChargeState.SUCCEEDED, "pi_1")]
    await fleet.billing.collection.charge_invoice(number)
    return number


async def tell(fleet, event: str, cents: int, how: ReversalState, *, of="pi_1", about="dp_1"):
    told = Reversal("ch_1" if how is REFUNDED else about, of, cents, how)
    fleet.provider.events = {b"x": PaymentEvent(event, "", None, told)}
    await fleet.billing.payment_event(b"x", "right")


async def balances(fleet) -> dict[str, int]:
    """Return what the books say of acme's money, in cents, without zeros."""
    names = ("prepaid/acme", "receivable/acme", "cash/stripe")
    found = {
        one: await fleet.database.read(lambda db, one=one: books.balance(db, one)) for one in names
    }
    return {name.split("/")[0]: nano // CENT for name, nano in found.items() if nano}


async def credit(fleet) -> int:
    left = await fleet.database.read(lambda one: account_credits.left_of(one, "acme"))
    return sum(one.remaining_nano_usd for one in left) // CENT


async def open_cents(fleet, number: str) -> int:
    return (await fleet.database.read(lambda one: invoices.find(one, number))).open_cents


async def shown(fleet) -> list[tuple[ChargeState, str]]:
    found = await fleet.database.read(lambda one: collection.payments_of(one, "acme"))
    return [(one.state, one.error) for one in found]


def state(fleet) -> AccountState:
    return fleet.store.view().accounts["acme"].state


# --- top-ups ---


async def test_a_disputed_top_up_loses_its_credit_and_owes_what_was_spent(fleet):
    await top_up(fleet, 1_000)
    await fleet.use(usage(nano_usd=300 * CENT))
    await tell(fleet, "evt_1", 1_000, DISPUTED)
    assert (await credit(fleet), state(fleet)) == (0, AccountState.LIMITED)
    assert await balances(fleet) == {"receivable": 300}
    assert fleet.billing.remaining_of("acme") == 0
    assert fleet.store.account_infos()["acme"].reason == "a payment was reversed"
    assert await shown(fleet) == [
        (ChargeState.DISPUTED, "1000 of 1000 cents went back, 300 cents of it are owed")
    ]


async def test_a_top_up_that_was_spent_whole_and_disputed_is_paid_by_the_next_one_first(fleet):
    await top_up(fleet, 1_000)
    await fleet.use(usage(nano_usd=1_000 * CENT))
    await tell(fleet, "evt_1", 1_000, DISPUTED)
    await tell(fleet, "evt_2", 1_000, LOST)
    assert (await balances(fleet), state(fleet)) == ({"receivable": 1_000}, AccountState.LIMITED)
    await top_up(fleet, 600, "pi_2")
    await fleet.billing.step_dunning()
    assert (await balances(fleet), await credit(fleet)) == ({"receivable": 400, "cash": 600}, 0)
    assert state(fleet) is AccountState.LIMITED
    await top_up(fleet, 500, "pi_3")
    await fleet.billing.step_dunning()
    assert (await balances(fleet), await credit(fleet)) == ({"prepaid": -100, "cash": 1_100}, 100)
    assert state(fleet) is AccountState.ACTIVE
    assert fleet.billing.remaining_of("acme") == USD


@pytest.mark.parametrize("spent_cents", [0, 300, 1_000])
async def test_a_dispute_that_is_won_gives_everything_back(fleet, spent_cents):
    await top_up(fleet, 1_000)
    if spent_cents:
        await fleet.use(usage(nano_usd=spent_cents * CENT))
    before = await balances(fleet)
    await tell(fleet, "evt_1", 1_000, DISPUTED)
    assert state(fleet) is AccountState.LIMITED
    await tell(fleet, "evt_2", 1_000, WON)
    assert (await balances(fleet), state(fleet)) == (before, AccountState.ACTIVE)
    assert await credit(fleet) == 1_000 - spent_cents
    assert await shown(fleet) == [(ChargeState.SUCCEEDED, "")]


async def test_refunds_are_cumulative_and_come_in_any_order(fleet):
    await top_up(fleet, 1_000)
    for event, cents in (("evt_2", 700), ("evt_1", 200), ("evt_2", 700), ("evt_3", 700)):
        await tell(fleet, event, cents, REFUNDED)
        assert await credit(fleet) == 300
    assert (await balances(fleet), state(fleet)) == (
        {"prepaid": -300, "cash": 300},
        AccountState.ACTIVE,
    )
    assert await shown(fleet) == [(ChargeState.REFUNDED, "700 of 1000 cents went back")]


async def test_no_more_goes_back_than_was_paid(fleet):
    await top_up(fleet, 1_000)
    await tell(fleet, "evt_1", 600, REFUNDED)
    await tell(fleet, "evt_2", 2**53, DISPUTED)
    assert (await balances(fleet), await credit(fleet)) == ({}, 0)


async def test_a_dispute_that_ended_is_not_opened_by_a_late_event(fleet):
    await top_up(fleet, 1_000)
    await tell(fleet, "evt_2", 1_000, WON)
    await tell(fleet, "evt_1", 1_000, DISPUTED)
    assert (await credit(fleet), state(fleet)) == (1_000, AccountState.ACTIVE)


async def test_what_went_back_before_the_payment_succeeded_here_is_taken_once_it_has(fleet):
    fleet.provider.outcomes = [Charged(ChargeState.PENDING, "pi_1")]
    pending = await fleet.billing.collection.top_up("acme", 1_000)
    await tell(fleet, "evt_1", 1_000, DISPUTED)
    assert await balances(fleet) == {}
    won = PaymentEvent("evt_2", pending.key, Charged(ChargeState.SUCCEEDED, "pi_1"))
    for event in (won, won):
        fleet.provider.events = {b"x": event}
        await fleet.billing.payment_event(b"x", "right")
    await fleet.billing.step_dunning()
    assert (await balances(fleet), await credit(fleet)) == ({}, 0)
    assert state(fleet) is AccountState.LIMITED


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
async def test_events_of_a_payment_that_goes_back_end_alike_in_every_order(fleet, order):
    fleet.provider.outcomes = [Charged(ChargeState.PENDING, "pi_1")]
    pending = await fleet.billing.collection.top_up("acme", 1_000)
    told = [
        PaymentEvent("evt_0", pending.key, Charged(ChargeState.SUCCEEDED, "pi_1")),
        PaymentEvent("evt_1", "", None, Reversal("ch_1", "pi_1", 200, REFUNDED)),
        PaymentEvent("evt_2", "", None, Reversal("ch_1", "pi_1", 500, REFUNDED)),
        PaymentEvent("evt_3", "", None, Reversal("dp_1", "pi_1", 400, DISPUTED)),
    ]
    for place in (*order, *order):
        fleet.provider.events = {b"x": told[place]}
        await fleet.billing.payment_event(b"x", "right")
    await fleet.billing.step_dunning()
    assert await balances(fleet) == {"prepaid": -100, "cash": 100}
    assert (await credit(fleet), state(fleet)) == (100, AccountState.LIMITED)


async def test_reversals_of_charges_that_are_not_ours_change_nothing_and_are_forgotten(fleet):
    await top_up(fleet, 1_000)
    await tell(fleet, "evt_1", 500, DISPUTED, of="pi_other")
    assert (await credit(fleet), state(fleet)) == (1_000, AccountState.ACTIVE)
    fleet.forward(collection.EVENTS_KEPT_MS + 1)
    await tell(fleet, "evt_2", 100, REFUNDED)

    def kept(connection: sqlite3.Connection) -> list[str]:
        rows = connection.execute("SELECT provider_id FROM payment_reversals")
        return [provider_id for (provider_id,) in rows]

    assert await fleet.database.read(kept) == ["pi_1"]


# --- invoices ---


async def test_a_paid_invoice_that_is_disputed_is_open_again_and_dunning_goes_on(fleet):
    number = await paid_invoice(fleet)
    await tell(fleet, "evt_1", 100, DISPUTED)
    assert (await open_cents(fleet, number), state(fleet)) == (100, AccountState.LIMITED)
    assert await balances(fleet) == {"receivable": 100}
    await tell(fleet, "evt_2", 100, LOST)
    charged = len(fleet.provider.charges)
    for _ in range(14 + 21):  # it was not due yet
        fleet.forward(DAY_MS)
        await fleet.billing.tick()
    assert state(fleet) is AccountState.SUSPENDED
    assert len(fleet.provider.charges) == charged, "whoever disputed is not charged by the clock"
    fleet.provider.outcomes = [Charged(ChargeState.SUCCEEDED, "pi_2")]
    await fleet.billing.collection.charge_invoice(number)
    await fleet.billing.step_dunning()
    assert (await open_cents(fleet, number), state(fleet)) == (0, AccountState.ACTIVE)
    assert await balances(fleet) == {"cash": 100}


async def test_a_dispute_of_an_invoice_that_is_won_after_it_was_paid_again_is_credit(fleet):
    number = await paid_invoice(fleet)
    await tell(fleet, "evt_1", 100, DISPUTED)
    fleet.provider.outcomes = [Charged(ChargeState.SUCCEEDED, "pi_2")]
    await fleet.billing.collection.charge_invoice(number)
    await tell(fleet, "evt_2", 100, WON)
    assert (await open_cents(fleet, number), await credit(fleet)) == (0, 100)
    assert state(fleet) is AccountState.ACTIVE


async def test_a_refund_of_a_second_payment_leaves_the_invoice_paid(fleet):
    number = await invoiced(fleet)
    fleet.provider.outcomes = [Charged(ChargeState.PENDING, "pi_1")]
    await fleet.billing.collection.charge_invoice(number)
    now, manual = fleet.clock(), "the bank"
    await fleet.database.write(lambda one: collection.paid_otherwise(one, number, now, manual))
    await fleet.billing.collection.record(f"{number}-1", Charged(ChargeState.SUCCEEDED, "pi_1"))
    assert await credit(fleet) == 100
    await tell(fleet, "evt_1", 100, REFUNDED)
    assert (await open_cents(fleet, number), await credit(fleet)) == (0, 0)
    assert state(fleet) is AccountState.ACTIVE


async def test_a_part_of_an_old_invoice_that_is_refunded_is_open_again_and_due_from_then(fleet):
    number = await paid_invoice(fleet)
    fleet.forward(300 * DAY_MS)
    await tell(fleet, "evt_1", 40, REFUNDED)
    assert (await open_cents(fleet, number), state(fleet)) == (40, AccountState.GRACE)


# --- states ---


async def test_an_operators_suspension_is_neither_loosened_nor_lifted_by_a_dispute(fleet):
    await top_up(fleet, 1_000)
    await fleet.store.write(
        accounts.set_state("acme", AccountState.SUSPENDED, "abuse", "operator/ana")
    )
    for event, how in (("evt_1", DISPUTED), ("evt_2", WON)):
        await tell(fleet, event, 1_000, how)
        assert state(fleet) is AccountState.SUSPENDED
    assert fleet.store.account_infos()["acme"].state_by == "operator/ana"


async def test_a_forged_dispute_changes_nothing(fleet):
    await top_up(fleet, 1_000)
    told = Reversal("dp_1", "pi_1", 1_000, DISPUTED)
    fleet.provider.events = {b"x": PaymentEvent("evt_1", "", None, told)}
    with pytest.raises(Unauthenticated):
        await fleet.billing.payment_event(b"x", "wrong")
    assert (await credit(fleet), state(fleet)) == (1_000, AccountState.ACTIVE)


async def test_a_coordinator_that_ends_after_the_event_was_taken_limits_at_its_next_look(fleet):
    await top_up(fleet, 1_000)
    event = PaymentEvent("evt_1", "", None, Reversal("dp_1", "pi_1", 1_000, DISPUTED))
    assert await fleet.billing.collection.accept(event)
    assert state(fleet) is AccountState.ACTIVE
    await fleet.restarted().start()
    await fleet.billing.tick()
    assert state(fleet) is AccountState.LIMITED


# --- what Stripe sends ---


def stripe_event(kind: str, about: dict[str, object]) -> dict[str, object]:
    """Return an event with the fields that Stripe's API 2025-03-31 gives it."""
    return {
        "id": "evt_1Qx0",
        "object": "event",
        "api_version": "2025-03-31.basil",
        "created": 1_740_000_000,
        "livemode": True,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
        "data": {"object": about},
    }


CHARGE = {
    "id": "ch_3Qx",
    "object": "charge",
    "amount": 5_000,
    "amount_captured": 5_000,
    "amount_refunded": 1_200,
    "currency": "usd",
    "customer": "cus_1",
    "disputed": False,
    "metadata": {"edgeforge_key": "topup-acme-1", "about": "prepaid credit of acme"},
    "paid": True,
    "payment_intent": "pi_3Qx",
    "refunded": False,
    "status": "succeeded",
}
DISPUTE = {
    "id": "du_1Qx",
    "object": "dispute",
    "amount": 5_000,
    "balance_transactions": [],
    "charge": "ch_3Qx",
    "currency": "usd",
    "evidence_details": {"due_by": 1_741_000_000, "has_evidence": False},
    "is_charge_refundable": False,
    "metadata": {},
    "payment_intent": "pi_3Qx",
    "reason": "fraudulent",
    "status": "needs_response",
}


@pytest.mark.parametrize(
    ("kind", "about", "right"),
    [
        ("charge.refunded", CHARGE, Reversal("ch_3Qx", "pi_3Qx", 1_200, REFUNDED)),
        (
            "charge.refunded",
            CHARGE | {"payment_intent": {"id": "pi_3Qx", "object": "payment_intent"}},
            Reversal("ch_3Qx", "pi_3Qx", 1_200, REFUNDED),
        ),
        ("charge.refunded", CHARGE | {"payment_intent": None}, None),
        ("charge.succeeded", CHARGE, None),
        ("charge.dispute.created", DISPUTE, Reversal("du_1Qx", "pi_3Qx", 5_000, DISPUTED)),
        (
            "charge.dispute.created",
            DISPUTE | {"currency": "eur", "amount": 4_100},
            Reversal("du_1Qx", "pi_3Qx", 2**53, DISPUTED),
        ),
        ("charge.dispute.created", DISPUTE | {"status": "warning_needs_response"}, None),
        (
            "charge.dispute.closed",
            DISPUTE | {"status": "won"},
            Reversal("du_1Qx", "pi_3Qx", 5_000, WON),
        ),
        (
            "charge.dispute.closed",
            DISPUTE | {"status": "lost"},
            Reversal("du_1Qx", "pi_3Qx", 5_000, LOST),
        ),
        ("charge.dispute.closed", DISPUTE | {"status": "warning_closed"}, None),
    ],
)
def test_stripes_events_of_refunds_and_disputes_are_read(kind, about, right):
    there = StripePayments(KEY, SECRET, api_base="http://127.0.0.1:1", timeout_s=1)
    event = there.event_of(*signed(stripe_event(kind, about), int(time.time())))
    assert event == PaymentEvent("evt_1Qx0", "", None, right)


# --- books of before ---


def test_payments_of_before_know_what_of_them_paid_their_invoice():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, [one for one in ALL_MIGRATIONS if one.name != "billing_0003"], 1)
    connection.execute(
        "INSERT INTO payments VALUES ('n-1', 'pi_1', 'acme', 'n', 120, 'succeeded', 1, '')"
    )
    entries = (("cash/stripe", 100 * CENT), ("receivable/acme", -100 * CENT))
    posting = books.ledger.posting("payment", "acme", "2028-02", FEBRUARY, entries, "n-1")
    books.append(connection, posting)
    migrate(connection, ALL_MIGRATIONS, 1)
    assert connection.execute("SELECT invoice_cents FROM payments").fetchall() == [(100,)]
    assert reversals.limited(connection) == frozenset()
    assert customers.all_of(connection) == []
