"""Money over the real listeners and commands: last month's usage becomes an invoice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.billing.month_close import remember_clock
from coordinator.cli.main import app
from coordinator.clock import now_unix_ms
from coordinator.core.months import DAY_MS, month_of, month_start_unix_ms
from coordinator.usage.database import UsageDatabase
from tests.support.billing import CENT, count, usage
from tests.support.coordinator_process import CoordinatorProcess

pytestmark = pytest.mark.integration

CONFIG = """
[billing]
tick_s = 0.2
seller_name = "EdgeForge Ltd"
seller_country = "DE"
tax = "vat"
tax_rates = "DE=19"
"""
THIS_MONTH = month_of(now_unix_ms())
LAST_MONTH = month_of(month_start_unix_ms(THIS_MONTH) - DAY_MS)
HOSTILE = "=cmd()"


class Fleet:
    """A coordinator whose usage database has last month's usage of acme, and some of now."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.coordinator = CoordinatorProcess(folder, CONFIG)
        self.coordinator.init_here()
        asyncio.run(self._use(self.coordinator.state_dir / "usage.db"))
        self.coordinator.start()
        for account in ("acme", "b1"):
            self.ok("account", "create", account)

    async def _use(self, path: Path) -> None:
        database = await UsageDatabase.open(path, now_unix_ms)
        last, now = month_start_unix_ms(LAST_MONTH) + DAY_MS, now_unix_ms()
        deltas = [
            usage(nano_usd=150 * CENT + 4, at_unix_ms=last),
            usage(nano_usd=50 * CENT, at_unix_ms=last, deployment=HOSTILE),
            usage(nano_usd=30 * CENT, at_unix_ms=now),
            usage("b1", nano_usd=20 * CENT, at_unix_ms=now),
        ]
        await database.run(lambda one: count(one, deltas, now), lambda done: None)
        # Away for longer than is believed: the clock closes nothing until an operator does.
        await database.write(lambda one: remember_clock(one, now - 20 * DAY_MS))
        await database.close()

    def run(self, *arguments: object):
        """Run ``edgeforge`` in this process."""
        profile = self.coordinator.operator_dir / "profile.toml"
        return CliRunner().invoke(app, ["--profile", str(profile), *map(str, arguments)])

    def ok(self, *arguments: object) -> str:
        done = self.run(*arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    def refused(self, *arguments: object) -> str:
        """Return the error and its hint."""
        done = self.run(*arguments)
        assert done.exit_code != 0
        return str(done.exception)

    def json(self, *arguments: object):
        return json.loads(self.ok(*arguments, "--json"))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    running = Fleet(tmp_path_factory.mktemp("billing"))
    yield running
    running.coordinator.stop()


def test_the_month_so_far_is_exactly_what_scripts_read(fleet: Fleet):
    summary = fleet.json("invoice", "--account", "acme")
    assert summary.keys() == {
        *("lines", "requests", "prompt_tokens", "completion_tokens", "total_nano_usd")
    }
    assert (summary["requests"], summary["total_nano_usd"]) == (1, 30 * CENT)
    everyone = fleet.json("invoice")
    assert [line["account"] for line in everyone["lines"]] == ["acme", "b1"]
    assert everyone["total_nano_usd"] == 50 * CENT
    assert "0.30 USD" in fleet.ok("invoice", "preview", "--account", "acme")
    assert fleet.json("invoice", "--account", "acme", "--month", "2020-01")["lines"] == []


def test_a_month_becomes_an_invoice_its_documents_a_credit_note_and_a_payment(fleet: Fleet):
    where = ("--country", "de", "--vat-id", "DE 123 456 789", "--email", "cfo@acme.example")
    fleet.ok("invoice", "profile", "acme", "--legal-name", "Acme GmbH", *where)
    assert "has not ended" in fleet.refused("invoice", "close", THIS_MONTH)
    (issued,) = fleet.json("invoice", "close", LAST_MONTH)
    number, total_cents = issued["number"], 200 + 38
    assert (issued["total_cents"], issued["open_cents"]) == (total_cents, total_cents)
    assert fleet.json("invoice", "ls", "--account", "acme")[0]["number"] == number
    assert fleet.json("invoice", "show", number)["total_nano_usd"] == 200 * CENT + 4
    whole = json.loads(fleet.ok("invoice", "show", number, "--document"))
    assert whole["customer"]["legal_name"] == "Acme GmbH"
    assert "VAT DE 19 %: 0.38" in fleet.ok("invoice", "show", number)

    files = {}
    for form in ("csv", "focus", "page", "pdf"):
        out = fleet.folder / f"invoice.{form}"
        told = fleet.json("invoice", form, number, "--out", out)
        files[form] = out.read_bytes()
        assert told["size_bytes"] == len(files[form])
    assert b"'=cmd()" in files["csv"]
    assert files["focus"].startswith(b"BilledCost,")
    assert b"<h1>Invoice " in files["page"]
    assert files["pdf"].startswith(b"%PDF")

    note = fleet.json("invoice", "credit-note", number, "--usd", "1.19", "--reason", "outage")
    assert (note["total_cents"], note["tax_cents"]) == (-119, -19)
    too_much = fleet.refused("invoice", "credit-note", number, "--usd", "1.20", "--reason", "more")
    assert "over the 1.19 USD left" in too_much
    paid = fleet.json("payment", "record", "acme", "--invoice", number, "--reference", "SEPA 1")
    assert paid == {"number": number, "cents": 119}
    status = fleet.json("payment", "status", "acme")
    assert (status["state"], status["open_invoices"]) == ("active", [])


def test_credits_caps_and_what_is_left(fleet: Fleet):
    fleet.ok("account", "cap", "acme", "--monthly-usd", "1", "--prepaid")
    assert fleet.json("payment", "status", "acme")["remaining_nano_usd"] == 0
    given = fleet.json("credit", "grant", "acme", "--usd", "0.90", "--reason", "trial")
    assert given["amount_nano_usd"] == 90 * CENT
    until = ("--reason", "x", "--expires", "2020-01-01")
    assert "expired already" in fleet.refused("credit", "grant", "acme", "--usd", 1, *until)
    assert "no amount" in fleet.refused("credit", "grant", "acme", "--usd", "x", *until)
    assert [row["kind"] for row in fleet.json("credit", "ls", "--account", "acme")] == ["grant"]
    # What was used over the balance is owed first: 0.90 - 0.30.
    assert fleet.json("payment", "status", "acme")["remaining_nano_usd"] == 60 * CENT
    kept = fleet.json("account", "cap", "acme", "--monthly-usd", "0", "--postpaid")
    assert kept == {"account": "acme", "cap_nano_usd": 0, "prepaid": False}
    assert fleet.json("payment", "status", "acme")["remaining_nano_usd"] is None


def test_alerts_are_set_and_a_private_webhook_is_refused(fleet: Fleet):
    refused = fleet.refused("alert", "set", "acme", "--webhook", "https://127.0.0.1/hook")
    assert "not a public address" in refused
    made = fleet.json("alert", "set", "acme", "--webhook", "https://acme.example/h")
    assert len(made["secret"]) > 30
    shown = fleet.json("alert", "ls", "acme")
    assert "secret" not in shown["targets"]
    assert "nothing is to be set" in fleet.refused("alert", "set", "acme")
    fleet.ok("alert", "set", "acme", "--webhook", "", "--email", "cfo@acme.example")
    (sent,) = fleet.json("alert", "test", "acme")
    assert (sent["state"], sent["attempts"]) == ("due", 1)
    assert "no mail server" in sent["last_error"]


def test_without_a_provider_a_charge_says_what_to_configure(fleet: Fleet):
    for arguments in (("setup", "acme"), ("charge", "acme", "--top-up-usd", "5")):
        assert "[payments]" in fleet.refused("payment", *arguments)
    assert "owes nothing" in fleet.refused("payment", "retry", "acme")
    both = fleet.refused("payment", "charge", "acme", "--invoice", "EF-1", "--top-up-usd", "5")
    assert "one of both" in both


def test_the_books_agree_and_are_exported(fleet: Fleet):
    found = fleet.json("ledger", "check")
    assert found["problems"] == []
    assert found["usage_nano_usd"] == found["rollup_nano_usd"] == 250 * CENT + 4
    assert fleet.json("ledger", "show", "--account", "b1") == {"unbilled/b1": 20 * CENT}
    out = fleet.folder / "ledger.jsonl"
    fleet.ok("ledger", "export", "--out", out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert all(sum(line["entries"].values()) == 0 for line in lines)
    assert len(lines) == found["transactions"]


def test_invoices_of_nobody_are_not_found(fleet: Fleet):
    assert "there is no invoice" in fleet.refused("invoice", "show", "EF-1999-000001")
    assert "there is no account" in fleet.refused("invoice", "--account", "nobody", "--json")
    assert "is no month" in fleet.refused("invoice", "--month", "2026-13", "--json")
