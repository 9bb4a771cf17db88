"""Laws of money: postings sum to zero, ledger = rollups, totals are sums of what is shown."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.billing import account_credits, books, invoices
from coordinator.billing.account_credits import NewCredit
from coordinator.core import grants, invoice_rules
from coordinator.core.grants import Credit, CreditKind
from coordinator.core.months import DAY_MS
from coordinator.core.tax import VatTable
from tests.support.billing import (
    CENT,
    FEBRUARY,
    MARCH,
    books_in_memory,
    close,
    count,
    rules,
    usage,
)

NANO = st.one_of(st.integers(0, 10), st.integers(0, 300 * CENT), st.just(CENT // 2))
ACCOUNTS = st.sampled_from(["acme", "b1"])
DAYS = st.integers(0, 45)

USED = st.tuples(st.just("use"), ACCOUNTS, NANO, DAYS, st.integers(1, 2))
GIVEN = st.tuples(
    st.just("give"), ACCOUNTS, st.integers(1, 300 * CENT), DAYS, st.sampled_from([*CreditKind])
)
EXPIRED = st.tuples(st.just("expire"), ACCOUNTS, st.just(0), DAYS, st.just(0))
STEPS = st.lists(st.one_of(USED, USED, GIVEN, EXPIRED), max_size=25)


def perform(connection, steps, closed_through_unix_ms):
    for what, account, nano, days, which in steps:
        at = FEBRUARY + days * DAY_MS
        if what == "use":
            delta = usage(
                account,
                nano,
                at,
                card_version=which,
                closed_through_unix_ms=closed_through_unix_ms,
                streams=which,
                streams_in_time=which - 1,
            )
            count(connection, [delta, delta], at)
        elif what == "give":
            new = NewCredit(account, which, nano, "why", "ana", at + DAY_MS * (days % 9 + 1))
            account_credits.give(connection, new, at)
        else:
            account_credits.expire(connection, at, 0)


@settings(max_examples=60, deadline=None)
@given(before=STEPS, late=STEPS)
def test_ledger_rollups_lines_and_credits_agree_whatever_happens(before, late):
    connection = books_in_memory()
    perform(connection, before, 0)
    # Nothing of March is used before February closes but what was booked in March.
    close(connection, "2028-02")
    table = rules(VatTable("DE", {"DE": 1_900}))
    for account in invoices.accounts_to_invoice(connection, "2028-02"):
        invoices.issue(connection, account, "2028-02", table, MARCH + 5 * DAY_MS)
    perform(connection, late, MARCH)
    found = books.audit(connection)
    assert found.problems == []
    assert found.usage_nano_usd == found.rollup_nano_usd
    assert sum(nano for _, nano in books.all_balances(connection)) == 0
    for row in invoices.listed(connection, ""):
        one = row.invoice
        assert one.gross_cents == sum(line.cents for line in one.lines)
        assert one.net_cents == one.gross_cents - sum(part.cents for part in one.deductions)
        assert one.total_cents == one.net_cents + sum(part.cents for part in one.taxes)
        assert one.due_cents == one.total_cents - one.prepaid_cents >= 0
    connection.close()


CREDITS = st.lists(
    st.builds(
        Credit,
        id=st.integers(1, 10_000),
        kind=st.sampled_from(CreditKind),
        remaining_nano_usd=st.integers(0, 1_000),
        created_unix_ms=st.integers(0, 100),
        expires_unix_ms=st.one_of(st.just(0), st.integers(1, 1_000)),
    ),
    max_size=8,
    unique_by=lambda one: one.id,
)


@given(CREDITS, st.integers(0, 5_000), st.integers(0, 1_000))
def test_credits_never_go_below_zero_and_pay_all_that_they_can(left, nano, now):
    used, rest = grants.use(left, nano, now)
    assert sum(one.nano_usd for one in used) + rest == nano
    assert all(0 < one.nano_usd <= one.credit.remaining_nano_usd for one in used)
    assert all(one.credit.valid_at(now) for one in used)
    assert rest == max(0, nano - grants.remaining(left, now))
    # Only the last one used may have something left.
    assert all(one.nano_usd == one.credit.remaining_nano_usd for one in used[:-1])


@given(st.integers(-(10**15), 10**15))
def test_a_line_is_rounded_to_the_nearest_cent_and_symmetric(nano):
    cents = invoice_rules.cents_of(nano)
    assert abs(cents * CENT - nano) <= CENT // 2
    assert invoice_rules.cents_of(-nano) == -cents
