"""A fleet that sells: open registration, the customers' API, and cards at a localstripe process.

Its usage database has some usage of the month before, so that a month can be closed today.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from coordinator.billing.month_close import remember_clock
from coordinator.clock import now_unix_ms
from coordinator.core.months import DAY_MS, month_of, month_start_unix_ms
from coordinator.usage.database import UsageDatabase
from tests.support.billing import CENT, count, usage
from tests.support.fake_hub import FakeHub
from tests.support.journey import Journey, upstream_in_thread
from tests.support.local_stripe import KEY, SECRET, LocalStripe, local_stripe
from tests.support.ports import free_ports
from tests.support.registry_cases import base_files

LAST_MONTH = month_of(month_start_unix_ms(month_of(now_unix_ms())) - DAY_MS)
USED_LAST_MONTH_CENTS = 200


class Market(Journey):
    """The fleet, before anybody has signed up."""

    def __init__(self, folder: Path, upstream: FakeHub, stripe: LocalStripe) -> None:
        (port,) = free_ports(1)
        self.api = f"http://127.0.0.1:{port}"
        self.stripe = stripe
        for name, text in (("stripe.key", KEY), ("stripe.secret", SECRET)):
            with open(folder / name, "w", opener=_for_its_owner) as file:
                file.write(text + "\n")
        super().__init__(
            folder,
            upstream,
            coordinator=f"""
[api]
enabled = true
port = {port}
plain_http = true
signup = "open"
[billing]
tick_s = 0.2
seller_name = "EdgeForge Ltd"
[payments]
provider = "stripe"
stripe_api_base = "{stripe.base}"
stripe_key_file = "stripe.key"
stripe_publishable_key = "pk_test_1"
stripe_webhook_secret_file = "stripe.secret"
""",
        )

    def seed(self) -> None:
        """Let acme have used something in the month before."""
        asyncio.run(self._use())

    def open_account(self) -> str:
        """Make none: customers do."""
        return "none yet"

    async def _use(self) -> None:
        database = await UsageDatabase.open(self.coordinator.state_dir / "usage.db", now_unix_ms)
        at, now = month_start_unix_ms(LAST_MONTH) + DAY_MS, now_unix_ms()
        used = [usage(nano_usd=USED_LAST_MONTH_CENTS * CENT, at_unix_ms=at)]
        await database.run(lambda one: count(one, used, now), lambda done: None)
        # Away for longer than is believed: the month is closed when the test says so.
        await database.write(lambda one: remember_clock(one, now - 20 * DAY_MS))
        await database.close()

    def let_pass(self, number: str, days: int) -> None:
        """Have an invoice been due ``days`` earlier than it was."""
        path = self.coordinator.state_dir / "usage.db"
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection, connection:
            connection.execute(
                "UPDATE settlements SET due_unix_ms = due_unix_ms - ? WHERE number = ?",
                (days * DAY_MS, number),
            )

    def store_card(self, account: str, made: dict[str, str]) -> None:
        """Do what the customer's browser does with a set-up of a card."""
        path = self.coordinator.state_dir / "usage.db"
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection:
            (customer,) = connection.execute(
                "SELECT provider_customer FROM billing_accounts WHERE account = ?", (account,)
            ).fetchone()
        card = self.stripe.store_card(customer, made["setup_id"], made["client_secret"], "visa")
        asyncio.run(card)


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def market(folder: Path) -> Iterator[Market]:
    """Provide the fleet."""
    with local_stripe() as stripe, upstream_in_thread(base_files("upstream")) as upstream:
        one = Market(folder, upstream, stripe)
        try:
            one.start()
            yield one
        finally:
            one.stop()
