"""The tables of the ledger, of invoices and of what surrounds them, as migrations.

They are in the usage database because usage is posted in the transaction that counts it.
"""

from __future__ import annotations

from coordinator.usage.migration import Migration


def _append_only(table: str) -> tuple[str, ...]:
    """Return triggers that abort every change of what was written."""
    return tuple(
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table}"
        f" BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        for verb in ("UPDATE", "DELETE")
    )


BILLING_MIGRATIONS = (
    Migration(
        "billing_0001",
        (
            # balance_nano_usd follows the entries, so that no balance is a sum over years.
            "CREATE TABLE ledger_accounts (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
            " balance_nano_usd INTEGER NOT NULL DEFAULT 0) STRICT",
            "CREATE TABLE ledger_transactions (id INTEGER PRIMARY KEY, kind TEXT NOT NULL,"
            " account TEXT NOT NULL, month INTEGER NOT NULL, at_unix_ms INTEGER NOT NULL,"
            " reference TEXT NOT NULL) STRICT",
            "CREATE INDEX ledger_by_account ON ledger_transactions (account, month)",
            "CREATE TABLE ledger_entries (transaction_id INTEGER NOT NULL"
            " REFERENCES ledger_transactions (id), ledger_account_id INTEGER NOT NULL"
            " REFERENCES ledger_accounts (id), nano_usd INTEGER NOT NULL CHECK (nano_usd <> 0),"
            " PRIMARY KEY (transaction_id, ledger_account_id)) STRICT, WITHOUT ROWID",
            *_append_only("ledger_transactions"),
            *_append_only("ledger_entries"),
            "CREATE TRIGGER ledger_entries_newest BEFORE INSERT ON ledger_entries"
            " WHEN NEW.transaction_id <> (SELECT max(id) FROM ledger_transactions)"
            " BEGIN SELECT RAISE(ABORT, 'the transaction is complete'); END",
            # What an invoice's lines are, kept as usage is posted.
            "CREATE TABLE month_lines (booked_month INTEGER NOT NULL, account TEXT NOT NULL,"
            " usage_month INTEGER NOT NULL, deployment TEXT NOT NULL,"
            " tier_billed TEXT NOT NULL, sla_tier TEXT NOT NULL, card_version INTEGER NOT NULL,"
            " requests INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,"
            " cached_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,"
            " nano_usd INTEGER NOT NULL, streams INTEGER NOT NULL,"
            " streams_in_time INTEGER NOT NULL,"
            " PRIMARY KEY (account, booked_month, usage_month, deployment, tier_billed,"
            " sla_tier, card_version)) STRICT, WITHOUT ROWID",
            "CREATE INDEX month_lines_by_month ON month_lines (booked_month)",
            # What credits paid of a month's usage.
            "CREATE TABLE month_credits (account TEXT NOT NULL, booked_month INTEGER NOT NULL,"
            " grants_nano_usd INTEGER NOT NULL, prepaid_nano_usd INTEGER NOT NULL,"
            " PRIMARY KEY (account, booked_month)) STRICT, WITHOUT ROWID",
            "CREATE TABLE credits (id INTEGER PRIMARY KEY, account TEXT NOT NULL,"
            " kind TEXT NOT NULL, amount_nano_usd INTEGER NOT NULL,"
            " remaining_nano_usd INTEGER NOT NULL CHECK (remaining_nano_usd >= 0),"
            " created_unix_ms INTEGER NOT NULL, expires_unix_ms INTEGER NOT NULL,"
            " reason TEXT NOT NULL, given_by TEXT NOT NULL) STRICT",
            "CREATE INDEX credits_left ON credits (account) WHERE remaining_nano_usd > 0",
            "CREATE TABLE closed_months (month INTEGER PRIMARY KEY,"
            " closed_unix_ms INTEGER NOT NULL, invoiced_unix_ms INTEGER NOT NULL) STRICT",
            # An invoice or a credit note; content is the whole of it, as JSON.
            "CREATE TABLE invoices (number TEXT PRIMARY KEY, kind TEXT NOT NULL,"
            " year INTEGER NOT NULL, serial INTEGER NOT NULL, account TEXT NOT NULL,"
            " month INTEGER NOT NULL, issued_unix_ms INTEGER NOT NULL,"
            " due_unix_ms INTEGER NOT NULL, total_cents INTEGER NOT NULL,"
            " due_cents INTEGER NOT NULL, of_invoice TEXT NOT NULL, content TEXT NOT NULL,"
            " UNIQUE (kind, year, serial)) STRICT",
            "CREATE UNIQUE INDEX one_invoice_a_month ON invoices (account, month)"
            " WHERE kind = 'invoice'",
            *_append_only("invoices"),
            # How far an invoice is paid, and what was tried.
            "CREATE TABLE settlements (number TEXT PRIMARY KEY REFERENCES invoices (number),"
            " account TEXT NOT NULL, due_unix_ms INTEGER NOT NULL, open_cents INTEGER NOT NULL"
            " CHECK (open_cents >= 0), credited_cents INTEGER NOT NULL DEFAULT 0,"
            " attempts INTEGER NOT NULL DEFAULT 0, next_attempt_unix_ms INTEGER NOT NULL,"
            " last_error TEXT NOT NULL DEFAULT '') STRICT",
            "CREATE INDEX settlements_open ON settlements (account) WHERE open_cents > 0",
            # key: the idempotency key given to the provider.
            "CREATE TABLE payments (key TEXT PRIMARY KEY, provider_id TEXT NOT NULL,"
            " account TEXT NOT NULL, number TEXT NOT NULL, cents INTEGER NOT NULL,"
            " state TEXT NOT NULL, created_unix_ms INTEGER NOT NULL, error TEXT NOT NULL) STRICT",
            "CREATE INDEX payments_by_provider ON payments (provider_id)",
            "CREATE INDEX payments_by_account ON payments (account)",
            "CREATE TABLE payment_events (id TEXT PRIMARY KEY,"
            " received_unix_ms INTEGER NOT NULL) STRICT",
            "CREATE TABLE billing_accounts (account TEXT PRIMARY KEY,"
            " legal_name TEXT NOT NULL DEFAULT '', address TEXT NOT NULL DEFAULT '',"
            " country TEXT NOT NULL DEFAULT '', vat_id TEXT NOT NULL DEFAULT '',"
            " email TEXT NOT NULL DEFAULT '', prepaid INTEGER NOT NULL DEFAULT 0,"
            " cap_nano_usd INTEGER NOT NULL DEFAULT 0, alert_url TEXT NOT NULL DEFAULT '',"
            " alert_secret TEXT NOT NULL DEFAULT '', alert_email TEXT NOT NULL DEFAULT '',"
            " dunning_state TEXT NOT NULL DEFAULT 'active',"
            " provider_customer TEXT NOT NULL DEFAULT '') STRICT",
            "CREATE TABLE alerts (account TEXT NOT NULL, period TEXT NOT NULL,"
            " basis TEXT NOT NULL, percent INTEGER NOT NULL, at_unix_ms INTEGER NOT NULL,"
            " spent_nano_usd INTEGER NOT NULL, limit_nano_usd INTEGER NOT NULL,"
            " PRIMARY KEY (account, period, basis, percent)) STRICT",
            "CREATE TABLE alert_deliveries (id TEXT PRIMARY KEY, account TEXT NOT NULL,"
            " channel TEXT NOT NULL, target TEXT NOT NULL, body TEXT NOT NULL,"
            " state TEXT NOT NULL, attempts INTEGER NOT NULL, next_unix_ms INTEGER NOT NULL,"
            " last_error TEXT NOT NULL) STRICT",
            "CREATE TABLE billing_clock (id INTEGER PRIMARY KEY CHECK (id = 1),"
            " believed_unix_ms INTEGER NOT NULL) STRICT",
        ),
    ),
    Migration(
        "billing_0002",
        (
            # What an account has set for itself, beside the operators' cap.
            "ALTER TABLE billing_accounts ADD COLUMN own_cap_nano_usd INTEGER NOT NULL DEFAULT 0",
        ),
    ),
    Migration(
        "billing_0003",
        (
            # invoice_cents: what paid the invoice, the rest is prepaid. reversal: how money of it
            # went back, reversed_cents how much until now, owed_nano_usd what of that is unpaid.
            "ALTER TABLE payments ADD COLUMN invoice_cents INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE payments ADD COLUMN reversal TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE payments ADD COLUMN reversed_cents INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE payments ADD COLUMN owed_nano_usd INTEGER NOT NULL DEFAULT 0"
            " CHECK (owed_nano_usd >= 0)",
            "UPDATE payments SET invoice_cents = coalesce((SELECT -sum(nano_usd) / 10000000"
            " FROM ledger_transactions JOIN ledger_entries"
            " ON transaction_id = ledger_transactions.id JOIN ledger_accounts"
            " ON ledger_accounts.id = ledger_account_id WHERE kind = 'payment'"
            " AND ledger_transactions.account = payments.account AND reference = payments.key"
            " AND name = 'receivable/' || payments.account), 0)"
            " WHERE number <> '' AND state = 'succeeded'",
            "CREATE INDEX payments_reversed ON payments (account) WHERE reversal <> ''",
            # What a provider told of refunds and disputes, of payments not known yet too.
            "CREATE TABLE payment_reversals (id TEXT PRIMARY KEY, provider_id TEXT NOT NULL,"
            " cents INTEGER NOT NULL CHECK (cents >= 0), state TEXT NOT NULL,"
            " received_unix_ms INTEGER NOT NULL) STRICT",
            "CREATE INDEX reversals_by_provider ON payment_reversals (provider_id)",
        ),
    ),
)
