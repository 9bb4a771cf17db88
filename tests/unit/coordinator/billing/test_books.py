"""Usage in the books: credits in order, months, invoices, credit notes, and what is immutable."""

from __future__ import annotations

import sqlite3

import pytest

from coordinator.billing import account_credits, books, collection, customers, invoices
from coordinator.billing.account_credits import NewCredit
from coordinator.core.grants import CreditKind
from coordinator.core.invoice_rules import Party
from coordinator.core.months import DAY_MS
from coordinator.core.tax import VatTable
from protos.domain.errors import Conflict, InvalidRequest, NotFound
from tests.support.billing import (
    CENT,
    FEBRUARY,
    MARCH,
    USD,
    books_in_memory,
    close,
    count,
    rules,
    usage,
)

HOUR = 3_600_000


@pytest.fixture
def connection():
    found = books_in_memory()
    yield found
    assert books.audit(found).problems == []
    found.close()


def give(connection, kind=CreditKind.GRANT, nano=USD, *, expires=0, at=FEBRUARY):
    new = NewCredit("acme", kind, nano, "a reason", "operator/ana", expires)
    return account_credits.give(connection, new, at)


def issue(connection, month="2028-02", at=MARCH + 3 * DAY_MS, **kwargs):
    close(connection, month)
    return invoices.issue(connection, "acme", month, rules(**kwargs), at)


def test_usage_waits_for_its_invoice_and_is_then_receivable(connection):
    count(connection, [usage(), usage(nano_usd=3 * CENT)], FEBRUARY)
    assert books.balance(connection, "unbilled/acme") == 8 * CENT
    made = issue(connection)
    assert made.number == "EF-2028-000001"
    assert made.due_cents == 8
    assert books.balance(connection, "unbilled/acme") == 0
    assert books.balance(connection, "receivable/acme") == 8 * CENT


def test_free_usage_is_on_a_line_and_in_no_posting(connection):
    count(connection, [usage(nano_usd=0)], FEBRUARY)
    assert books.transactions(connection, "acme") == []
    assert invoices.month_lines(connection, "acme", "2028-02")[0].requests == 1
    assert invoices.accounts_to_invoice(connection, "2028-02") == []


def test_credits_are_used_by_expiry_then_grants_then_prepaid(connection):
    give(connection, CreditKind.PREPAID, 10 * CENT)
    give(connection, CreditKind.GRANT, 10 * CENT)
    give(connection, CreditKind.PREPAID, 10 * CENT, expires=FEBRUARY + 9 * HOUR)
    count(connection, [usage(nano_usd=25 * CENT)], FEBRUARY)
    left = {one.id: one.remaining_nano_usd for one in account_credits.left_of(connection, "acme")}
    assert left == {1: 5 * CENT}
    assert books.balance(connection, "unbilled/acme") == 0


def test_a_grant_that_expires_mid_month_pays_until_its_instant(connection):
    ends = FEBRUARY + 12 * HOUR
    give(connection, nano=10 * CENT, expires=ends)
    count(connection, [usage(nano_usd=CENT, at_unix_ms=ends - 1)], ends)
    count(connection, [usage(nano_usd=CENT, at_unix_ms=ends)], ends)
    assert books.balance(connection, "grants/acme") == -9 * CENT
    assert books.balance(connection, "unbilled/acme") == CENT


def test_late_usage_from_before_the_expiry_is_paid_until_the_credit_is_settled(connection):
    ends = FEBRUARY + 12 * HOUR
    give(connection, nano=10 * CENT, expires=ends)
    assert account_credits.expire(connection, ends + HOUR - 1, HOUR) == []
    count(connection, [usage(nano_usd=CENT, at_unix_ms=ends - 60_000)], ends + HOUR - 1)
    assert list(account_credits.expire(connection, ends + HOUR, HOUR)) == [1]
    assert books.balance(connection, "grants/acme") == 0
    assert books.balance(connection, "expense/grants") == CENT
    assert books.transactions(connection, "acme")[-1].posting.at_unix_ms == ends
    assert list(account_credits.expire(connection, ends + 2 * HOUR, HOUR)) == []


def test_an_account_full_of_credits_is_billed_and_paid_and_gets_none_it_asks_for(
    connection, monkeypatch
):
    monkeypatch.setattr(account_credits, "MAX_CREDITS", 2)
    for _ in range(2):
        give(connection, CreditKind.PREPAID, USD, expires=FEBRUARY + HOUR)
    count(connection, [usage(nano_usd=100 * CENT, at_unix_ms=FEBRUARY + DAY_MS)], FEBRUARY)
    with pytest.raises(InvalidRequest, match="has 2 credits"):
        account_credits.require_room(connection, "acme")
    made = issue(connection)
    collection.paid(connection, "acme", made.number, 105, MARCH, "cash/stripe", "pi")
    note = invoices.credit_note(connection, made.number, 100, "why", MARCH)
    assert note.due_cents == -100
    left = sorted(one.remaining_nano_usd for one in account_credits.left_of(connection, "acme"))
    assert left == [5 * CENT, 100 * CENT, USD, USD]


def test_prepaid_that_expires_becomes_revenue(connection):
    give(connection, CreditKind.PREPAID, USD, expires=FEBRUARY + HOUR)
    account_credits.expire(connection, FEBRUARY + HOUR, 0)
    assert books.balance(connection, "revenue/expired_prepaid") == -USD


def test_a_price_card_that_changes_mid_month_gives_two_lines(connection):
    count(connection, [usage(card_version=1), usage(card_version=2, nano_usd=6 * CENT)], FEBRUARY)
    made = issue(connection)
    assert [(line.card_version, line.cents) for line in made.lines] == [(1, 5), (2, 6)]


def test_late_usage_of_a_closed_month_adjusts_the_next_invoice(connection):
    count(connection, [usage()], FEBRUARY)
    issue(connection)
    late = usage(nano_usd=7 * CENT, at_unix_ms=MARCH - 1, closed_through_unix_ms=MARCH)
    count(connection, [late, usage(at_unix_ms=MARCH)], MARCH + 5 * DAY_MS)
    made = issue(connection, "2028-03", MARCH + 40 * DAY_MS)
    assert [(line.month, line.cents) for line in made.lines] == [("2028-02", 7), ("2028-03", 5)]
    assert made.number == "EF-2028-000002"


def test_usage_booked_in_a_month_that_closes_meanwhile_is_undone_and_sent_again(connection):
    count(connection, [usage()], FEBRUARY)
    close(connection, "2028-02")
    with pytest.raises(Conflict, match="2028-02 has just been closed"):
        count(connection, [usage()], MARCH)
    assert sum(line.requests for line in invoices.month_lines(connection, "acme", "2028-02")) == 1


def test_a_month_is_invoiced_once_for_an_account(connection):
    count(connection, [usage()], FEBRUARY)
    issue(connection)
    assert invoices.accounts_to_invoice(connection, "2028-02") == []
    with pytest.raises(sqlite3.IntegrityError):
        invoices.issue(connection, "acme", "2028-02", rules(), MARCH)


def test_numbers_have_no_gap_after_a_failed_issue_and_begin_again_each_year(connection):
    for account in ("a1", "b1", "c1"):
        count(connection, [usage(account)], FEBRUARY)
    close(connection, "2028-02")
    made = [invoices.issue(connection, "a1", "2028-02", rules(), MARCH).number]
    connection.execute("BEGIN")
    invoices.issue(connection, "b1", "2028-02", rules(), MARCH)
    connection.execute("ROLLBACK")
    made.append(invoices.issue(connection, "b1", "2028-02", rules(), MARCH).number)
    made.append(invoices.issue(connection, "c1", "2028-02", rules(), MARCH + 366 * DAY_MS).number)
    assert made == ["EF-2028-000001", "EF-2028-000002", "EF-2029-000001"]


@pytest.mark.parametrize("table", ["ledger_transactions", "ledger_entries", "invoices"])
def test_what_is_written_cannot_be_changed_or_deleted(connection, table):
    count(connection, [usage()], FEBRUARY)
    issue(connection)
    column = {"ledger_entries": "nano_usd"}.get(table, "account")
    for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET {column} = {column}"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)


def test_a_transaction_that_is_complete_takes_no_further_entry(connection):
    count(connection, [usage(), usage("b1")], FEBRUARY)
    with pytest.raises(sqlite3.IntegrityError, match="complete"):
        connection.execute("INSERT INTO ledger_entries VALUES (1, 4, 5)")


def test_a_missed_promise_is_credited_on_the_invoice(connection):
    count(
        connection,
        [usage(nano_usd=100 * CENT, sla_tier="realtime", streams=10, streams_in_time=9)],
        FEBRUARY,
    )
    made = issue(connection, promise_percent=95, credit_percent=10)
    assert [(one.kind, one.cents) for one in made.deductions] == [("sla_credit", 10)]
    assert made.due_cents == 90
    assert books.balance(connection, "revenue/sla_credits") == 10 * CENT


def test_an_sla_credit_over_what_is_due_becomes_a_grant(connection):
    give(connection, nano=100 * CENT)
    count(connection, [usage(nano_usd=100 * CENT, streams=10, streams_in_time=0)], FEBRUARY)
    made = issue(connection)
    assert made.due_cents == 0
    (left,) = account_credits.left_of(connection, "acme")
    assert left.remaining_nano_usd == 10 * CENT


def test_usage_paid_by_credits_leaves_nothing_due_however_lines_are_rounded(connection):
    give(connection, nano=USD)
    odd = [usage(nano_usd=CENT // 2 - 1, deployment=f"d{n}") for n in range(7)]
    count(connection, [*odd, usage(nano_usd=CENT // 2)], FEBRUARY)
    made = issue(connection)
    assert (made.gross_cents, made.due_cents) == (1, 0)
    assert books.balance(connection, "receivable/acme") == 0


def test_tax_is_on_what_is_billed_and_prepaid_pays_before_it_is_due(connection):
    german = customers.with_profile(
        customers.BilledAccount("acme"), Party("Acme", "", "DE", "", "cfo@acme.example")
    )
    customers.save(connection, german)
    give(connection, CreditKind.PREPAID, 100 * CENT)
    count(connection, [usage(nano_usd=150 * CENT)], FEBRUARY)
    made = issue(connection, tax=VatTable("DE", {"DE": 1_900}))
    assert (made.net_cents, made.tax_cents, made.total_cents) == (150, 29, 179)
    assert (made.prepaid_cents, made.due_cents) == (100, 79)
    assert books.balance(connection, "tax/payable") == -29 * CENT


def test_a_credit_note_lowers_what_is_open_and_has_its_own_number(connection):
    count(connection, [usage(nano_usd=100 * CENT)], FEBRUARY)
    made = issue(connection)
    note = invoices.credit_note(connection, made.number, 30, "wrong model", MARCH)
    assert (note.number, note.of_invoice, note.total_cents) == (
        *("CN-2028-000001", made.number),
        -30,
    )
    assert invoices.find(connection, made.number).open_cents == 70
    assert books.balance(connection, "receivable/acme") == 70 * CENT


def test_credit_notes_cannot_exceed_their_invoice_and_need_a_reason(connection):
    count(connection, [usage(nano_usd=100 * CENT)], FEBRUARY)
    made = issue(connection)
    with pytest.raises(InvalidRequest, match="over the"):
        invoices.credit_note(connection, made.number, 101, "why", MARCH)
    with pytest.raises(InvalidRequest, match="needs a reason"):
        invoices.credit_note(connection, made.number, 5, " ", MARCH)
    invoices.credit_note(connection, made.number, 60, "why", MARCH)
    note = invoices.credit_note(connection, made.number, None, "the rest", MARCH)
    assert note.total_cents == -40
    with pytest.raises(InvalidRequest):
        invoices.credit_note(connection, made.number, 1, "more", MARCH)
    with pytest.raises(NotFound):
        invoices.credit_note(connection, note.number, 1, "of a note", MARCH)


def test_a_credit_note_of_what_was_paid_becomes_prepaid_credit(connection):
    give(connection, CreditKind.PREPAID, 100 * CENT)
    count(connection, [usage(nano_usd=100 * CENT)], FEBRUARY)
    made = issue(connection)
    assert invoices.find(connection, made.number).paid
    invoices.credit_note(connection, made.number, 40, "why", MARCH)
    (left,) = account_credits.left_of(connection, "acme")
    assert (left.kind, left.remaining_nano_usd) == (CreditKind.PREPAID, 40 * CENT)


def test_parts_of_tax_in_credit_notes_sum_to_the_tax_of_the_invoice(connection):
    customers.save(connection, customers.BilledAccount("acme", country="DE"))
    count(connection, [usage(nano_usd=100 * CENT)], FEBRUARY)
    made = issue(connection, tax=VatTable("DE", {"DE": 1_900}))
    notes = [
        invoices.credit_note(connection, made.number, cents, "why", MARCH)
        for cents in (33, 33, 33, None)
    ]
    assert sum(note.tax_cents for note in notes) == -19
    assert books.balance(connection, "tax/payable") == 0


def test_a_check_names_what_was_tampered_with():
    connection = books_in_memory()
    count(connection, [usage()], FEBRUARY)
    connection.execute("UPDATE sums SET nano_usd = nano_usd + 1")
    connection.execute("UPDATE ledger_accounts SET balance_nano_usd = 1 WHERE id = 1")
    problems = books.audit(connection).problems
    assert any("the rollups 50000001" in one for one in problems)
    assert any("its entries sum to" in one for one in problems)
    connection.close()


@pytest.mark.parametrize(
    "text", ["no-at", "a@b", "a b@c.de", "a@b.de\nBcc: x@y.de", "<a@b.de>", "a@b.de,c@d.de"]
)
def test_what_is_no_email_address_is_refused(text):
    with pytest.raises(InvalidRequest):
        customers.check_email(text)
