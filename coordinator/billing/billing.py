"""Billing as a whole: what ingest and the limits call, and the clock that moves it on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from coordinator.billing import account_credits, customers, month_close, posting
from coordinator.billing.alerting import Alerts
from coordinator.billing.collection import Collection
from coordinator.billing.funds import Funds
from coordinator.billing.standings import standings
from coordinator.core import dunning
from coordinator.core.dunning import BILLING
from coordinator.core.wall_clock import WallClock
from coordinator.store import accounts
from coordinator.store.records import AuditNote
from protos.domain.customers import AccountState
from protos.domain.errors import EdgeForgeError, NotFound

if TYPE_CHECKING:
    import sqlite3

    from coordinator.billing.invoices import InvoiceRules
    from coordinator.billing.mail import Mailer
    from coordinator.billing.payments import PaymentProvider
    from coordinator.billing.standings import Standing
    from coordinator.billing.webhooks import WebhookSender
    from coordinator.core.dunning import DunningPolicy
    from coordinator.core.invoice_rules import Invoice
    from coordinator.core.usage_rollup import UsageDelta
    from coordinator.store.store import Store
    from coordinator.usage.database import UsageDatabase

T = TypeVar("T")

_log = logging.getLogger(__name__)

_BY = BILLING
#: Least time between two looks, however much is spent.
_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class BillingParts:
    """What billing is made of; ``assembly`` hands it in."""

    database: UsageDatabase
    store: Store
    rules: InvoiceRules
    dunning: DunningPolicy
    provider: PaymentProvider
    webhooks: WebhookSender
    mailer: Mailer | None
    now_unix_ms: Callable[[], int]
    now_mono_ms: Callable[[], float]
    tick_s: float = 30.0
    credit_settle_ms: int = 3_600_000
    #: Whether webhooks may go to private addresses.
    allow_private_webhooks: bool = False


class Billing:
    """Posts usage, answers what may be spent, and does what time asks for."""

    def __init__(self, parts: BillingParts) -> None:
        self.parts = parts
        self.database = parts.database
        self.rules = parts.rules
        self.clock = WallClock()
        self.funds = Funds(parts.database, self._settled_unix_ms)
        self.collection = Collection(
            parts.database, parts.provider, parts.dunning, parts.now_unix_ms
        )
        self.alerts = Alerts(
            parts.database,
            spending_of=self.funds.spending_of,
            webhooks=parts.webhooks,
            mailer=parts.mailer,
            now_unix_ms=parts.now_unix_ms,
        )
        self._closed_through_unix_ms = 0
        self._spent: set[str] = set()
        self._wake = asyncio.Event()
        self._asked = False

    # --- what ingest and the limits call ---

    def post(self, connection: sqlite3.Connection, deltas: list[UsageDelta]) -> None:
        """Post usage inside ingest's transaction. Raises: Conflict."""
        posting.post(connection, deltas, self.parts.now_unix_ms())

    def committed(self, deltas: list[UsageDelta]) -> None:
        """Follow usage that is committed; on the event loop."""
        self.funds.committed(deltas)
        for delta in deltas:
            if self.funds.bounds(delta.key.account):
                self._spent.add(delta.key.account)
                self._wake.set()

    def closed_through_unix_ms(self) -> int:
        """Return the instant before which all months are closed."""
        return self._closed_through_unix_ms

    def remaining_of(self, account: str) -> int | None:
        """Return what an account may still spend; None: unlimited.

        Nothing, where agents are to bound an account of which no bound is known: its row here is
        lost, or has not been read yet. A cap is no credit: an account whose invoices are overdue
        spends what it has paid in advance.
        """
        row = self.parts.store.view().accounts.get(account)
        limited = row is not None and row.state is AccountState.LIMITED
        remaining = self.funds.remaining_of(account, only_paid=limited)
        if remaining is None and row is not None and row.funded:
            return None if self.funds.is_unbounded(account) else 0
        return remaining

    def _settled_unix_ms(self) -> int:
        """Return the time by which caps begin again and credits end: no jump of a clock's."""
        return self.clock.estimate(self.parts.now_unix_ms(), self.parts.now_mono_ms())

    async def payment_event(self, payload: bytes, signature: str) -> None:
        """Take a webhook of the payment provider. Raises: Unauthenticated, StoreUnavailable."""
        event = self.collection.provider.event_of(payload, signature)
        if await self.collection.accept(event):
            await self.changed()
            if event.reversal is not None:
                await self.step_dunning()  # who disputes is limited at once
            self.wake()

    async def prepay(self, account: str) -> None:
        """Have an account spend only what it has paid in advance; it need not exist yet."""
        await self.database.write(
            lambda one: customers.change(one, account, lambda known: replace(known, prepaid=True))
        )
        await self.changed()

    async def changed(self) -> None:
        """Read funds again after a change, and tell the agents whose spending is bounded."""
        await self.funds.refresh()
        funded = self.funds.funded
        for name, account in sorted(self.parts.store.view().accounts.items()):
            # Nothing is known of an account without a row, which frees it of no bound.
            known = name in funded or self.funds.is_unbounded(name)
            if known and account.funded != (name in funded):
                await self.parts.store.write(accounts.set_funded(name, name in funded))

    # --- the clock ---

    async def start(self) -> None:
        """Read what was known before the start."""
        self.clock = WallClock(await self.database.read(month_close.believed_unix_ms))
        self._closed_through_unix_ms = await self.database.read(month_close.closed_through_unix_ms)
        await self.changed()

    async def run(self) -> None:
        """Do what is due until cancelled; a failure is logged and tried again.

        Usage of a bounded account has its thresholds looked at within a second, all else waits for
        the next tick.
        """
        next_tick_mono_ms = 0.0
        while True:
            now_mono_ms = self.parts.now_mono_ms()
            try:
                if self._asked or now_mono_ms >= next_tick_mono_ms:
                    self._asked = False
                    next_tick_mono_ms = now_mono_ms + self.parts.tick_s * 1_000
                    await self.tick()
                else:
                    await self._tell()
            except EdgeForgeError as error:
                _log.warning("billing waits: %s", error.message)
            except Exception:
                _log.exception("billing failed; it is tried again")
            await asyncio.sleep(min(_PAUSE_S, self.parts.tick_s))
            try:
                async with asyncio.timeout(self.parts.tick_s):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()

    async def tick(self) -> None:
        """Look once. Nothing that cannot be taken back is done by a clock that jumped."""
        now = self.parts.now_unix_ms()
        if self.clock.look(now, self.parts.now_mono_ms()):
            await self.database.write(partial(_remember, now))
            await self._by_date(now)
        else:
            _log.error(
                "the clock is off by %.0f s from what is believed: no month is closed and no"
                " credit expires until it is right, or `edgeforge invoice close` confirms it",
                self.clock.off_ms / 1_000,
            )
        await self.changed()
        self._spent |= self.funds.funded
        await self._tell()

    async def _tell(self) -> None:
        """Note thresholds of accounts that have spent, and deliver what is due."""
        spent, self._spent = self._spent, set()
        await self.alerts.note(spent)
        await self.alerts.deliver()

    async def _by_date(self, now: int) -> None:
        settle_ms = self.parts.credit_settle_ms
        await self.database.write(lambda one: account_credits.expire(one, now, settle_ms))
        policy = self.rules.policy
        closed = await self.database.write(
            lambda one: self._closing(one, month_close.close_due(one, now, policy))
        )
        for month in closed:
            _log.info("month closed month=%s", month)
        await self._issue(now)
        await self.collection.charge_due()
        await self.step_dunning()

    def _closing(self, connection: sqlite3.Connection, result: T) -> T:
        """Book what follows in the next month, from this transaction of the writer's thread on.

        If its commit fails, usage is booked in the next month until the value is read again.
        """
        self._closed_through_unix_ms = month_close.closed_through_unix_ms(connection)
        return result

    async def close_month(self, month: str) -> list[Invoice]:
        """Close a month now and return its invoices; confirms the clock. Raises: Conflict."""
        now = self.parts.now_unix_ms()
        await self.database.write(
            lambda one: self._closing(one, month_close.close_now(one, month, now))
        )
        self.clock.confirm(now, self.parts.now_mono_ms())
        issued = await self._issue(now)
        return [one for one in issued if one.month == month]

    async def _issue(self, now: int) -> list[Invoice]:
        """Issue what is missing of closed months."""
        self._closed_through_unix_ms = await self.database.read(month_close.closed_through_unix_ms)
        issued: list[Invoice] = []
        for month in await self.database.read(month_close.without_invoices):
            while True:
                step = partial(_issue_some, month, self.rules, now)
                if not (some := await self.database.write(step)):
                    break
                issued += some
        return issued

    async def step_dunning(self) -> None:
        """Write the states of accounts that owe, or have paid."""
        now, policy, store = self.parts.now_unix_ms(), self.parts.dunning, self.parts.store
        states = store.view().accounts
        written = {
            name: states[name].state
            for name, info in store.account_infos().items()
            if info.state_by == _BY and name in states
        }
        for one in await self.database.read(lambda books: standings(books, now, policy, written)):
            await self._apply(one)

    async def _apply(self, standing: Standing) -> None:
        account = self.parts.store.view().accounts.get(standing.account)
        if account is not None:
            info = self.parts.store.account_infos().get(account.id)
            ours = standing.ours if info is not None and info.state_by == _BY else None
            state = dunning.applied(standing.wanted, ours, account.state)
            if state is not None:
                note = AuditNote(_BY, "account.state", f"account/{account.id}", str(state))
                write = accounts.set_state(account.id, state, standing.reason, _BY)
                try:
                    await self.parts.store.write(write, note)
                except NotFound:
                    _log.warning("account is gone account=%s", account.id)
        await self.database.write(partial(_wrote, standing))

    def wake(self) -> None:
        """Do all that is due at once."""
        self._asked = True
        self._wake.set()


def _remember(now_unix_ms: int, connection: sqlite3.Connection) -> None:
    month_close.remember_clock(connection, now_unix_ms)


def _issue_some(
    month: str, rules: InvoiceRules, now_unix_ms: int, connection: sqlite3.Connection
) -> list[Invoice]:
    return month_close.issue_some(connection, month, rules, now_unix_ms)


def _wrote(standing: Standing, connection: sqlite3.Connection) -> None:
    known = customers.load(connection, standing.account)
    customers.save(connection, customers.with_dunning(known, standing.wanted))
