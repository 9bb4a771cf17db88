"""Billing over real databases: months and clocks, funds, dunning, payments, alerts."""

from __future__ import annotations

import asyncio

import pytest

from coordinator.billing import (
    account_credits,
    alerting,
    books,
    collection,
    customers,
    invoices,
    month_close,
)
from coordinator.billing.account_credits import NewCredit
from coordinator.billing.payments import Charged, ChargeState, NoPayments, PaymentEvent
from coordinator.core.grants import CreditKind
from coordinator.core.months import DAY_MS, month_end_unix_ms
from coordinator.store import accounts
from protos.domain.customers import AccountState
from protos.domain.errors import Conflict, InvalidRequest, LinkDown, Unauthenticated
from tests.support.billing import CENT, FEBRUARY, MARCH, USD, usage
from tests.support.billing_service import billed_fleet
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.integration

YEAR_MS = 366 * DAY_MS
HOUR_MS = 3_600_000


@pytest.fixture
async def fleet(tmp_path):
    async with billed_fleet(tmp_path) as found:
        yield found
        assert (await found.database.read(books.audit)).problems == []


async def set_account(fleet, **changes) -> None:
    def change(connection):
        known = customers.load(connection, "acme")
        fields = {name: getattr(known, name) for name in known.__dataclass_fields__} | changes
        return customers.save(connection, customers.BilledAccount(**fields))

    await fleet.database.write(change)
    await fleet.billing.changed()


async def give(fleet, nano, kind=CreditKind.GRANT, expires=0) -> None:
    new = NewCredit("acme", kind, nano, "why", "ana", expires)
    await fleet.database.write(lambda one: account_credits.give(one, new, fleet.clock()))
    await fleet.billing.changed()


async def listed(fleet, account="acme"):
    return await fleet.database.read(lambda one: invoices.listed(one, account))


def state(fleet) -> AccountState:
    return fleet.store.view().accounts["acme"].state


async def pass_days(fleet, days: int) -> None:
    """Let time pass as a coordinator that runs sees it, with a look a day."""
    for _ in range(days):
        fleet.forward(DAY_MS)
        await fleet.billing.tick()


# --- months ---


async def test_a_month_is_closed_after_its_grace_once_and_its_invoices_are_issued(fleet):
    await fleet.use()
    await fleet.billing.tick()
    await pass_days(fleet, 31)
    fleet.forward(DAY_MS - 1)
    await fleet.billing.tick()
    assert await listed(fleet) == []
    fleet.forward(1)
    await fleet.billing.tick()
    (row,) = await listed(fleet)
    assert (row.invoice.month, row.invoice.due_cents) == ("2028-02", 5)
    assert fleet.billing.closed_through_unix_ms() == MARCH
    await pass_days(fleet, 2)
    assert len(await listed(fleet)) == 1


async def test_a_clock_that_jumps_a_year_closes_no_month(fleet):
    await fleet.use()
    await fleet.billing.tick()
    fleet.clock.unix_ms += YEAR_MS
    for _ in range(48):
        fleet.forward(HOUR_MS)
        await fleet.billing.tick()
    assert await listed(fleet) == []
    fleet.clock.unix_ms -= YEAR_MS
    await fleet.billing.tick()
    assert fleet.billing.clock.off_ms == 0


async def test_a_restart_with_a_clock_a_year_ahead_closes_no_month(fleet):
    await fleet.use()
    await fleet.billing.tick()
    fleet.clock.unix_ms += YEAR_MS
    fleet.mono.unix_ms = 7
    await fleet.restarted().start()
    await fleet.billing.tick()
    assert await listed(fleet) == []


async def test_a_clock_set_back_an_hour_closes_no_month_twice(fleet):
    await fleet.use()
    await fleet.billing.tick()
    await pass_days(fleet, 33)
    fleet.clock.unix_ms -= 40 * DAY_MS
    fleet.forward(HOUR_MS)
    await fleet.billing.tick()
    fleet.clock.unix_ms += 40 * DAY_MS
    await pass_days(fleet, 1)
    assert len(await listed(fleet)) == 1


async def test_a_coordinator_that_ends_between_close_and_invoices_issues_them_later(fleet):
    await fleet.use(usage("acme"), usage("b1"))
    now = month_end_unix_ms("2028-02")
    await fleet.database.write(lambda one: month_close.close_now(one, "2028-02", now))
    await fleet.restarted().start()
    await fleet.billing.tick()
    assert [row.invoice.number for row in await listed(fleet, "")] == [
        "EF-2028-000002",
        "EF-2028-000001",
    ]


async def test_months_away_are_closed_in_order_once_the_clock_is_confirmed(fleet):
    await fleet.use()
    await fleet.billing.tick()
    await pass_days(fleet, 28)
    await fleet.use(usage(at_unix_ms=MARCH + DAY_MS))
    fleet.forward(40 * DAY_MS)
    await fleet.billing.close_month("2028-02")
    await fleet.billing.tick()
    assert [row.invoice.month for row in await listed(fleet)] == ["2028-03", "2028-02"]


async def test_an_operator_closes_a_month_early_and_only_the_next_and_ended_one(fleet):
    await fleet.use()
    with pytest.raises(InvalidRequest, match="has not ended"):
        await fleet.billing.close_month("2028-02")
    fleet.forward(29 * DAY_MS)
    with pytest.raises(Conflict, match="2028-02"):
        await fleet.billing.close_month("2028-01")
    (made,) = await fleet.billing.close_month("2028-02")
    assert made.due_cents == 5
    with pytest.raises(Conflict, match="2028-03"):
        await fleet.billing.close_month("2028-02")


async def test_late_usage_is_booked_in_the_next_month_from_the_close_on(fleet):
    await fleet.use()
    fleet.forward(29 * DAY_MS)
    await fleet.billing.close_month("2028-02")
    closed = fleet.billing.closed_through_unix_ms()
    await fleet.use(usage(at_unix_ms=FEBRUARY, closed_through_unix_ms=closed))
    lines = await fleet.database.read(lambda one: invoices.month_lines(one, "acme", "2028-03"))
    assert [(line.month, line.requests) for line in lines] == [("2028-02", 1)]


# --- funds ---


async def test_an_account_without_bounds_is_unlimited(fleet):
    assert fleet.billing.remaining_of("acme") is None
    assert not fleet.store.view().accounts["acme"].funded


async def test_a_cap_counts_the_month_and_begins_again_at_its_edge(fleet):
    await set_account(fleet, cap_nano_usd=20 * CENT)
    assert fleet.store.view().accounts["acme"].funded
    await fleet.use()
    assert fleet.billing.remaining_of("acme") == 15 * CENT
    await fleet.billing.changed()
    assert fleet.billing.remaining_of("acme") == 15 * CENT
    fleet.clock.unix_ms = MARCH - 1
    assert fleet.billing.remaining_of("acme") == 15 * CENT
    fleet.clock.unix_ms = MARCH
    assert fleet.billing.remaining_of("acme") == 20 * CENT
    await set_account(fleet, cap_nano_usd=0)
    assert not fleet.store.view().accounts["acme"].funded


async def test_a_prepaid_balance_falls_with_usage_and_never_below_zero(fleet):
    await set_account(fleet, prepaid=True)
    assert fleet.billing.remaining_of("acme") == 0
    await give(fleet, 8 * CENT)
    await fleet.use()
    assert fleet.billing.remaining_of("acme") == 3 * CENT
    await fleet.use()
    assert fleet.billing.remaining_of("acme") == 0
    await fleet.billing.changed()
    assert fleet.billing.remaining_of("acme") == 0


async def test_what_a_prepaid_account_used_over_its_balance_is_taken_from_the_next_top_up(fleet):
    await set_account(fleet, prepaid=True)
    await give(fleet, 3 * CENT)
    await fleet.use()
    await give(fleet, 10 * CENT, CreditKind.PREPAID)
    assert fleet.billing.remaining_of("acme") == 8 * CENT


async def test_a_balance_ends_with_its_grant_at_the_instant(fleet):
    await set_account(fleet, prepaid=True)
    await give(fleet, USD, expires=FEBRUARY + HOUR_MS)
    fleet.clock.unix_ms = FEBRUARY + HOUR_MS - 1
    assert fleet.billing.remaining_of("acme") == USD
    fleet.clock.unix_ms = FEBRUARY + HOUR_MS
    assert fleet.billing.remaining_of("acme") == 0


async def test_the_clock_posts_the_end_of_credits(fleet):
    await give(fleet, USD, expires=FEBRUARY + HOUR_MS)
    await fleet.billing.tick()
    fleet.forward(2 * HOUR_MS)
    await fleet.billing.tick()
    written = await fleet.database.read(lambda one: books.transactions(one, "acme"))
    assert [one.posting.kind for one in written] == ["grant", "expiry"]


# --- dunning and payments ---


async def invoiced(fleet, cents=100) -> str:
    await fleet.use(usage(nano_usd=cents * CENT))
    await fleet.billing.tick()
    fleet.forward(29 * DAY_MS)
    (made,) = await fleet.billing.close_month("2028-02")
    return made.number


DECLINED = Charged(ChargeState.FAILED, "pi_1", "declined")


async def test_an_unpaid_account_steps_down_and_a_payment_brings_it_back(fleet):
    number = await invoiced(fleet)
    fleet.provider.outcomes = [DECLINED] * 9
    await pass_days(fleet, 13)
    assert (state(fleet), fleet.provider.charges) == (AccountState.ACTIVE, [])
    await pass_days(fleet, 1)
    assert state(fleet) is AccountState.GRACE
    await pass_days(fleet, 7)
    assert state(fleet) is AccountState.LIMITED
    await pass_days(fleet, 14)
    assert state(fleet) is AccountState.SUSPENDED
    assert len(fleet.provider.charges) == 5
    assert len({one.key for one in fleet.provider.charges}) == 5
    fleet.provider.outcomes = []
    paid = await fleet.billing.collection.charge_invoice(number)
    assert paid.state is ChargeState.SUCCEEDED
    await fleet.billing.step_dunning()
    assert state(fleet) is AccountState.ACTIVE


async def test_an_operators_suspension_is_not_lifted_by_a_payment(fleet):
    number = await invoiced(fleet)
    fleet.provider.outcomes = [DECLINED] * 9
    await pass_days(fleet, 15)
    suspend = accounts.set_state("acme", AccountState.SUSPENDED, "abuse", "operator/ana")
    await fleet.store.write(suspend)
    fleet.provider.outcomes = []
    await fleet.billing.collection.charge_invoice(number)
    await fleet.billing.step_dunning()
    assert state(fleet) is AccountState.SUSPENDED


async def test_a_charge_whose_answer_was_lost_is_asked_for_again_under_its_key(fleet):
    number = await invoiced(fleet)
    fleet.provider.outcomes = [LinkDown("no answer")]
    with pytest.raises(LinkDown):
        await fleet.billing.collection.charge_invoice(number)
    fleet.restarted()
    await fleet.billing.collection.charge_invoice(number)
    assert [one.key for one in fleet.provider.charges] == [f"{number}-1"] * 2
    with pytest.raises(InvalidRequest, match="nothing is open"):
        await fleet.billing.collection.charge_invoice(number)


async def test_a_pending_payment_is_decided_by_a_webhook_once(fleet):
    number = await invoiced(fleet)
    fleet.provider.outcomes = [Charged(ChargeState.PENDING, "pi_1")]
    await fleet.billing.collection.charge_invoice(number)
    with pytest.raises(Conflict, match="pending"):
        await fleet.billing.collection.charge_invoice(number)
    won = Charged(ChargeState.SUCCEEDED, "pi_1")
    fleet.provider.events = {
        b"1": PaymentEvent("evt_1", f"{number}-1", won),
        b"2": PaymentEvent("evt_2", f"{number}-1", won),
        b"3": PaymentEvent("evt_3", "", None),
    }
    for payload in (b"1", b"1", b"2", b"3"):
        await fleet.billing.payment_event(payload, "right")
    assert (await fleet.database.read(lambda one: invoices.find(one, number))).paid
    cash = await fleet.database.read(lambda one: books.balance(one, "cash/stripe"))
    assert cash == 100 * CENT


async def test_a_forged_webhook_changes_nothing(fleet):
    number = await invoiced(fleet)
    fleet.provider.events = {
        b"1": PaymentEvent("evt_1", f"{number}-1", Charged(ChargeState.SUCCEEDED, "pi"))
    }
    with pytest.raises(Unauthenticated):
        await fleet.billing.payment_event(b"1", "wrong")
    assert not (await fleet.database.read(lambda one: invoices.find(one, number))).paid


async def test_a_top_up_becomes_prepaid_credit(fleet):
    await set_account(fleet, prepaid=True)
    await fleet.billing.collection.top_up("acme", 5_000)
    await fleet.billing.changed()
    assert fleet.billing.remaining_of("acme") == 50 * USD
    for cents in (49, 10_000_001):
        with pytest.raises(InvalidRequest, match="a top-up is"):
            await fleet.billing.collection.top_up("acme", cents)


async def test_without_a_provider_dunning_goes_on_and_no_charge_is_begun(fleet):
    fleet.provider = NoPayments()
    await fleet.restarted().start()
    await invoiced(fleet)
    await pass_days(fleet, 15)
    assert state(fleet) is AccountState.GRACE
    assert await fleet.database.read(lambda one: collection.payments_of(one, "acme")) == []


async def test_money_over_what_is_open_becomes_prepaid_credit(fleet):
    number = await invoiced(fleet)
    fleet.provider.outcomes = [Charged(ChargeState.PENDING, "pi_1")]
    await fleet.billing.collection.charge_invoice(number)
    now = fleet.clock()
    await fleet.database.write(lambda one: invoices.credit_note(one, number, 40, "why", now))
    await fleet.billing.collection.record(f"{number}-1", Charged(ChargeState.SUCCEEDED, "pi_1"))
    (left,) = await fleet.database.read(lambda one: account_credits.left_of(one, "acme"))
    assert (left.kind, left.remaining_nano_usd) == (CreditKind.PREPAID, 40 * CENT)


async def test_a_payment_by_other_means_is_recorded(fleet):
    number = await invoiced(fleet)
    now = fleet.clock()
    await fleet.database.write(lambda one: collection.paid_otherwise(one, number, now, "SEPA 4711"))
    assert (await fleet.database.read(lambda one: invoices.find(one, number))).paid


# --- alerts ---


async def test_each_threshold_is_told_once_a_period_also_across_restarts(fleet):
    await set_account(fleet, cap_nano_usd=10 * CENT, alert_email="cfo@acme.example")
    await fleet.use()
    await fleet.billing.tick()
    await fleet.restarted().start()
    await fleet.billing.tick()
    await fleet.use()
    await fleet.billing.tick()
    await fleet.billing.tick()
    sent = await fleet.database.read(lambda one: alerting.deliveries(one, "acme"))
    assert [one.body.split('"percent": ')[1][:3].strip(",") for one in sent] == ["50", "80", "100"]
    fleet.forward(MARCH - fleet.clock())
    await fleet.billing.changed()
    await fleet.use(usage(at_unix_ms=MARCH))
    await fleet.billing.alerts.note(["acme"])
    sent = await fleet.database.read(lambda one: alerting.deliveries(one, "acme"))
    assert len(sent) == 4


async def test_an_alert_that_cannot_be_delivered_is_tried_again_and_given_up(fleet):
    await set_account(
        fleet, cap_nano_usd=10 * CENT, alert_url="http://127.0.0.1:1/hook", alert_secret="s"
    )
    await fleet.use()
    await fleet.billing.tick()
    for _ in range(9):
        fleet.forward(13 * HOUR_MS)
        await fleet.billing.alerts.deliver()
    (one,) = await fleet.database.read(lambda books: alerting.deliveries(books, "acme"))
    assert (one.state, one.attempts) == ("given_up", 8)
    assert "cannot be reached" in one.last_error


async def test_alerts_follow_the_use_of_a_balance(fleet):
    await set_account(fleet, prepaid=True, alert_email="cfo@acme.example")
    await give(fleet, 8 * CENT)
    await fleet.use()
    await fleet.billing.tick()
    (one,) = await fleet.database.read(lambda books: alerting.deliveries(books, "acme"))
    assert '"basis": "balance"' in one.body


# --- the task ---


@pytest.fixture
async def running(fleet):
    """Count what the task does, and let a test have it fail."""
    done: list[str] = []
    failures: list[Exception] = []
    tick = fleet.billing.tick

    async def counted() -> None:
        if failures:
            raise failures.pop()
        await tick()
        done.append("tick")

    fleet.billing.tick = counted
    task = asyncio.get_running_loop().create_task(fleet.billing.run())
    yield done, failures
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_task_goes_on_after_failures(fleet, running, caplog):
    done, failures = running
    failures += [LinkDown("away"), ZeroDivisionError("a bug")]
    await wait_until_async(lambda: fleet.billing.wake() or not failures, 5, "it failed twice")
    done.clear()
    await wait_until_async(lambda: fleet.billing.wake() or done, 5, "it ticks again")
    assert "billing waits: away" in caplog.text
    assert "billing failed; it is tried again" in caplog.text


async def test_a_state_that_was_written_before_an_end_is_lifted_by_a_payment_after_it(fleet):
    # The process ended between the two databases: the state is in one, and not noted in the other.
    write = accounts.set_state("acme", AccountState.LIMITED, "an invoice is overdue", "billing")
    await fleet.store.write(write)
    await fleet.restarted().start()
    await fleet.billing.tick()
    assert state(fleet) is AccountState.ACTIVE


async def test_a_cap_holds_over_a_months_edge_that_an_agents_clock_has_passed(fleet):
    await set_account(fleet, cap_nano_usd=10 * CENT)
    fleet.forward(MARCH - 60_000 - fleet.clock())
    await fleet.billing.changed()
    await fleet.use(usage(nano_usd=10 * CENT, at_unix_ms=fleet.clock()))
    await fleet.use(usage(nano_usd=CENT, at_unix_ms=MARCH + 30_000))
    assert fleet.billing.remaining_of("acme") == 0
    fleet.forward(60_000)
    await fleet.billing.changed()
    assert fleet.billing.remaining_of("acme") == 9 * CENT


async def test_usage_of_a_bounded_account_is_told_without_a_whole_tick(fleet, running):
    done, _ = running
    await set_account(fleet, cap_nano_usd=10 * CENT, alert_email="cfo@acme.example")
    await wait_until_async(lambda: done, 5, "the first tick")
    # The monotonic clock stands still: no further tick is due.
    done.clear()
    await fleet.use()
    await wait_until_async(
        lambda: fleet.database.read(lambda one: alerting.deliveries(one, "acme")), 5, "an alert"
    )
    assert done == []


# --- attacks on money ---

OFF_MS = 365 * DAY_MS


async def test_an_operators_suspension_from_before_an_overdue_invoice_outlives_its_payment(fleet):
    number = await invoiced(fleet)
    suspend = accounts.set_state("acme", AccountState.SUSPENDED, "abuse", "operator/ana")
    await fleet.store.write(suspend)
    fleet.provider.outcomes = [DECLINED] * 9
    await pass_days(fleet, 40)
    fleet.provider.outcomes = []
    await fleet.billing.collection.charge_invoice(number)
    await fleet.billing.step_dunning()
    assert state(fleet) is AccountState.SUSPENDED


async def test_a_cap_lets_no_account_spend_whose_invoices_are_overdue(fleet):
    await invoiced(fleet)
    await set_account(fleet, cap_nano_usd=1_000 * USD)
    fleet.provider.outcomes = [DECLINED] * 9
    await pass_days(fleet, 14)
    assert state(fleet) is AccountState.GRACE
    assert fleet.billing.remaining_of("acme") == 1_000 * USD
    await pass_days(fleet, 7)
    assert state(fleet) is AccountState.LIMITED
    assert fleet.billing.remaining_of("acme") == 0
    await give(fleet, 300 * CENT, CreditKind.PREPAID)
    assert fleet.billing.remaining_of("acme") == 200 * CENT, "what it owes is not spent again"


async def test_a_bounded_account_of_which_billing_knows_nothing_spends_nothing(fleet):
    await set_account(fleet, prepaid=True)
    await fleet.database.write(lambda one: one.execute("DELETE FROM billing_accounts"))
    await fleet.restarted().start()
    assert fleet.store.view().accounts["acme"].funded, "a lost row frees no account"
    assert fleet.billing.remaining_of("acme") == 0
    await set_account(fleet, prepaid=False)
    assert not fleet.store.view().accounts["acme"].funded
    assert fleet.billing.remaining_of("acme") is None


async def test_before_billing_has_read_its_books_no_bounded_account_spends(fleet):
    await set_account(fleet, cap_nano_usd=USD)
    assert fleet.restarted().remaining_of("acme") == 0
    await fleet.billing.start()
    assert fleet.billing.remaining_of("acme") == USD


@pytest.mark.parametrize("off_ms", [OFF_MS, 40 * DAY_MS, -40 * DAY_MS, -1])
async def test_a_clock_that_jumps_gives_no_cap_twice(fleet, off_ms):
    fleet.clock.unix_ms = fleet.mono.unix_ms = MARCH
    await set_account(fleet, cap_nano_usd=20 * CENT)
    await fleet.billing.tick()
    await fleet.use()
    fleet.clock.unix_ms += off_ms
    assert fleet.billing.remaining_of("acme") == 15 * CENT
    await fleet.billing.tick()
    assert fleet.billing.remaining_of("acme") == 15 * CENT
    await fleet.use()  # booked by the wrong clock
    await fleet.billing.tick()
    if off_ms > 0:
        assert fleet.billing.remaining_of("acme") == 10 * CENT
    fleet.clock.unix_ms -= off_ms
    await fleet.billing.tick()
    assert fleet.billing.remaining_of("acme") <= 15 * CENT


async def test_a_clock_set_back_brings_no_expired_grant_back(fleet):
    await set_account(fleet, prepaid=True)
    await give(fleet, 8 * CENT, expires=FEBRUARY + DAY_MS)
    await pass_days(fleet, 2)
    fleet.clock.unix_ms -= 2 * DAY_MS
    assert fleet.billing.remaining_of("acme") == 0


@pytest.mark.parametrize("made", [True, False])
async def test_a_charge_of_unknown_outcome_is_looked_for_once_its_key_may_be_forgotten(fleet, made):
    number = await invoiced(fleet)
    fleet.provider.outcomes = [LinkDown("no answer")]
    with pytest.raises(LinkDown):
        await fleet.billing.collection.charge_invoice(number)
    if made:
        fleet.provider.found = {f"{number}-1": Charged(ChargeState.SUCCEEDED, "pi_1")}
    fleet.forward(2 * DAY_MS)
    paid = await fleet.billing.collection.charge_invoice(number)
    assert paid.state is ChargeState.SUCCEEDED
    assert len(fleet.provider.charges) == (1 if made else 2)
    cash = await fleet.database.read(lambda one: books.balance(one, "cash/stripe"))
    assert cash == 100 * CENT


async def test_events_of_a_payment_in_any_order_leave_it_decided(fleet):
    number = await invoiced(fleet)
    fleet.provider.outcomes = [Charged(ChargeState.PENDING, "pi_1"), DECLINED]
    await fleet.billing.collection.charge_invoice(number)
    for place, told in enumerate((ChargeState.FAILED, ChargeState.PENDING)):
        event = PaymentEvent(f"evt_{place}", f"{number}-1", Charged(told, "pi_1"))
        fleet.provider.events = {b"x": event}
        await fleet.billing.payment_event(b"x", "right")
    again = await fleet.billing.collection.charge_invoice(number)
    assert again.key == f"{number}-2", "a late event leaves no payment pending for ever"


async def test_money_that_has_come_in_is_credited_however_many_credits_there_are(
    fleet, monkeypatch
):
    await set_account(fleet, prepaid=True)
    fleet.provider.outcomes = [Charged(ChargeState.PENDING, "pi_1")]
    pending = await fleet.billing.collection.top_up("acme", 100)
    monkeypatch.setattr(account_credits, "MAX_CREDITS", 0)
    monkeypatch.setattr(account_credits, "MAX_CREDIT_NANO_USD", 1)
    event = PaymentEvent("evt_1", pending.key, Charged(ChargeState.SUCCEEDED, "pi_1"))
    fleet.provider.events = {b"1": event}
    await fleet.billing.payment_event(b"1", "right")
    assert fleet.billing.remaining_of("acme") == USD


async def test_nothing_is_taken_from_a_card_for_a_top_up_without_room(fleet, monkeypatch):
    monkeypatch.setattr(account_credits, "MAX_CREDITS", 1)
    await set_account(fleet, prepaid=True)
    now = fleet.clock()
    for number in range(3):
        paid = ("acme", "", 100, now, "cash/stripe", f"pi-{number}")
        await fleet.database.write(lambda one, paid=paid: collection.paid(one, *paid))
    await fleet.billing.changed()
    assert fleet.billing.remaining_of("acme") == 3 * USD
    with pytest.raises(InvalidRequest, match="1 credits"):
        await give(fleet, 5)
    with pytest.raises(InvalidRequest, match="1 credits"):
        await fleet.billing.collection.top_up("acme", 100)
    assert fleet.provider.charges == [], "nothing is taken from the card for it"
