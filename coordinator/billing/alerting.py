"""Alerts on spending: each threshold once a period, delivered until it is taken or given up."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from coordinator.billing import customers
from coordinator.core.alerts import Spending, crossed, retry_unix_ms
from protos.domain.errors import EdgeForgeError, InvalidRequest
from protos.domain.pricing import format_usd

if TYPE_CHECKING:
    import sqlite3

    from coordinator.billing.mail import Mailer
    from coordinator.billing.webhooks import WebhookSender
    from coordinator.usage.database import UsageDatabase

_log = logging.getLogger(__name__)

WEBHOOK, EMAIL = "webhook", "email"
#: Deliveries of one pass.
_MAX_AT_ONCE = 20
_ID_BYTES = 12
_MAX_TOLD = 100_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that waits for its delivery, or was delivered, or given up."""

    id: str
    account: str
    channel: str
    target: str
    body: str
    state: str
    attempts: int
    last_error: str


class Alerts:
    """Notes which thresholds are reached and delivers what is due."""

    def __init__(
        self,
        database: UsageDatabase,
        *,
        spending_of: Callable[[str], Sequence[Spending]],
        webhooks: WebhookSender,
        mailer: Mailer | None,
        now_unix_ms: Callable[[], int],
    ) -> None:
        self._database = database
        self._spending_of = spending_of
        self._webhooks = webhooks
        self._mailer = mailer
        self._now_unix_ms = now_unix_ms
        #: account, basis -> period and the highest threshold that is in the database.
        self._told: dict[tuple[str, str], tuple[str, int]] = {}
        #: Ids of what is on its way.
        self._sending: set[str] = set()

    async def note(self, accounts: Iterable[str]) -> int:
        """Write down thresholds that are reached, and what is to be sent; returns how many."""
        now = self._now_unix_ms()
        spending = {
            account: found
            for account in accounts
            if (found := [one for one in self._spending_of(account) if self._news(account, one)])
        }
        if not spending:
            return 0
        noted = await self._database.write(lambda one: _note(one, spending, now))
        if len(self._told) > _MAX_TOLD:
            self._told.clear()  # rows say it too
        for account, found in spending.items():
            for one in found:
                self._told[account, one.basis] = (one.period, max(crossed(one, ())))
        return noted

    def _news(self, account: str, spending: Spending) -> bool:
        """Return whether a threshold may be reached that was not told, by memory alone."""
        period, percent = self._told.get((account, spending.basis), ("", 0))
        reached = crossed(spending, ())
        return bool(reached) and (period != spending.period or reached[-1] > percent)

    async def deliver(self) -> int:
        """Try what is due; returns how many were delivered."""
        now = self._now_unix_ms()
        due = await self._database.read(lambda connection: _due(connection, now))
        # A test delivers too: what is on its way already is not sent a second time.
        mine = [one for one in due if one.id not in self._sending]
        self._sending.update(one.id for one in mine)
        try:
            # At once, so that a receiver that answers slowly delays nobody else's.
            tried = await asyncio.gather(
                *(self._deliver(one) for one in mine), return_exceptions=True
            )
        finally:
            self._sending.difference_update(one.id for one in mine)
        for result in tried:
            if isinstance(result, BaseException):
                raise result
        return tried.count(True)

    async def _deliver(self, delivery: Delivery) -> bool:
        """Try one, and keep how it went; return whether it was taken."""
        error = await self._attempt(delivery)
        await self._database.write(partial(_tried, delivery, error, self._now_unix_ms()))
        return not error

    async def test(self, account: str) -> list[Delivery]:
        """Send a test to every target of an account at once. Raises: InvalidRequest."""
        now = self._now_unix_ms()

        def write(connection: sqlite3.Connection) -> list[Delivery]:
            return _put(connection, account, {"type": "test"}, now)

        made = await self._database.write(write)
        if not made:
            raise InvalidRequest(
                f"no webhook and no email is set for {account}", "edgeforge alert set"
            )
        await self.deliver()
        ids = {one.id for one in made}
        found = await self._database.read(lambda one: deliveries(one, account))
        return [one for one in found if one.id in ids]

    async def _attempt(self, delivery: Delivery) -> str:
        """Return why a delivery failed; empty: it was taken."""
        try:
            if delivery.channel == WEBHOOK:
                known = await self._database.read(lambda one: customers.load(one, delivery.account))
                body = delivery.body.encode()
                await self._webhooks.send(delivery.target, known.alert_secret, delivery.id, body)
            elif self._mailer is None:
                return "no mail server is configured ([smtp] host)"
            else:
                subject, text = _mail_of(delivery)
                await self._mailer.send(delivery.target, subject, text, delivery.id)
        except EdgeForgeError as error:
            _log.warning("alert not delivered id=%s: %s", delivery.id, error.message)
            return error.message
        return ""


def _note(
    connection: sqlite3.Connection, spending: Mapping[str, Sequence[Spending]], now_unix_ms: int
) -> int:
    noted = 0
    for account, found in spending.items():
        for one in found:
            told = {
                percent
                for (percent,) in connection.execute(
                    "SELECT percent FROM alerts WHERE account = ? AND period = ? AND basis = ?",
                    (account, one.period, one.basis),
                )
            }
            for percent in crossed(one, told):
                connection.execute(
                    "INSERT INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(account, one.period, one.basis, percent, now_unix_ms),
                        *(one.spent_nano_usd, one.limit_nano_usd),
                    ),
                )
                message = {
                    "type": "spending.threshold",
                    "basis": one.basis,
                    "period": one.period,
                    "percent": percent,
                    "spent_nano_usd": one.spent_nano_usd,
                    "limit_nano_usd": one.limit_nano_usd,
                }
                _put(connection, account, message, now_unix_ms)
                noted += 1
    return noted


def _put(
    connection: sqlite3.Connection, account: str, message: dict[str, object], now_unix_ms: int
) -> list[Delivery]:
    """Queue a message to every target of an account."""
    known = customers.load(connection, account)
    made = []
    for channel, target in ((WEBHOOK, known.alert_url), (EMAIL, known.alert_email)):
        if not target:
            continue
        number = secrets.token_hex(_ID_BYTES)
        body = json.dumps({"id": number, "account": account, "at_unix_ms": now_unix_ms, **message})
        connection.execute(
            "INSERT INTO alert_deliveries VALUES (?, ?, ?, ?, ?, 'due', 0, ?, '')",
            (number, account, channel, target, body, now_unix_ms),
        )
        made.append(Delivery(number, account, channel, target, body, "due", 0, ""))
    return made


def _due(connection: sqlite3.Connection, now_unix_ms: int) -> list[Delivery]:
    return _deliveries(
        connection,
        "WHERE state = 'due' AND next_unix_ms <= ? ORDER BY next_unix_ms LIMIT ?",
        (now_unix_ms, _MAX_AT_ONCE),
    )


def deliveries(connection: sqlite3.Connection, account: str) -> list[Delivery]:
    """Return the deliveries of an account, the newest last."""
    return _deliveries(connection, "WHERE account = ? ORDER BY rowid DESC LIMIT 200", (account,))[
        ::-1
    ]


def _deliveries(
    connection: sqlite3.Connection, rest: str, values: tuple[object, ...]
) -> list[Delivery]:
    query = (
        "SELECT id, account, channel, target, body, state, attempts, last_error"
        f" FROM alert_deliveries {rest}"
    )
    return [Delivery(*row) for row in connection.execute(query, values)]


def _tried(one: Delivery, error: str, now_unix_ms: int, connection: sqlite3.Connection) -> None:
    again = retry_unix_ms(now_unix_ms, one.attempts + 1) if error else 0
    state = "done" if not error else "given_up" if again is None else "due"
    connection.execute(
        "UPDATE alert_deliveries SET state = ?, attempts = attempts + 1, next_unix_ms = ?,"
        " last_error = ? WHERE id = ?",
        (state, again or 0, error, one.id),
    )


def _mail_of(delivery: Delivery) -> tuple[str, str]:
    """Return the subject and the text of a message."""
    message = json.loads(delivery.body)
    if message["type"] == "test":
        return "EdgeForge: test of alerts", f"Alerts of account {delivery.account} come here.\n"
    spent, limit = (format_usd(int(message[name])) for name in ("spent_nano_usd", "limit_nano_usd"))
    what = "monthly cap" if message["basis"] == "cap" else "prepaid balance"
    return (
        f"EdgeForge: {message['percent']} % of the {what} of {delivery.account} is used",
        f"Account {delivery.account} has used {spent} USD of {limit} USD in {message['period']}"
        f" (UTC): {message['percent']} % of its {what}.\n\nAt 100 % new requests are refused;"
        " running ones end as usual.\n",
    )
