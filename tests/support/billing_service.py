"""Billing over a store and a usage database on disk, with a clock that is set."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.billing.billing import Billing, BillingParts
from coordinator.billing.payments import CardSetup, Charge, Charged, ChargeState, PaymentEvent
from coordinator.billing.webhooks import WebhookSender
from coordinator.core.dunning import DunningPolicy
from coordinator.store import accounts
from coordinator.store.store import Store
from coordinator.usage.database import UsageDatabase
from protos.domain.customers import Account
from protos.domain.errors import Unauthenticated
from tests.support.billing import FEBRUARY, count, rules, usage
from tests.support.stores import SetClock

if TYPE_CHECKING:
    from coordinator.billing.mail import Mailer
    from coordinator.billing.payments import PaymentProvider
    from coordinator.core.usage_rollup import UsageDelta
    from protos.domain.errors import EdgeForgeError


@dataclass
class ScriptedProvider:
    """A provider of payments whose outcomes a test sets."""

    name: str = "scripted"
    outcomes: list[Charged | EdgeForgeError] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)
    events: dict[bytes, PaymentEvent] = field(default_factory=dict)
    #: Charges that were made, by their keys.
    found: dict[str, Charged] = field(default_factory=dict)

    async def create_customer(self, account: str, name: str, email: str) -> str:
        return f"customer-{account}"

    async def set_up_card(self, customer: str) -> CardSetup:
        return CardSetup("setup-1", "secret-1")

    async def has_card(self, customer: str) -> bool:
        return True

    async def charge(self, charge: Charge) -> Charged:
        self.charges.append(charge)
        outcome = self.outcomes.pop(0) if self.outcomes else Charged(ChargeState.SUCCEEDED, "pi")
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def find(self, charge: Charge) -> Charged | None:
        return self.found.get(charge.key)

    def event_of(self, payload: bytes, signature: str) -> PaymentEvent:
        if signature != "right":
            raise Unauthenticated("forged")
        return self.events[payload]


def billing_of(
    database: UsageDatabase,
    store: Store,
    now_unix_ms: Callable[[], int],
    *,
    provider: PaymentProvider | None = None,
    now_mono_ms: Callable[[], float] | None = None,
    mailer: Mailer | None = None,
    allow_private: bool = True,
) -> Billing:
    """Return billing as it is configured by default, but for webhooks to this machine."""
    return Billing(
        BillingParts(
            database=database,
            store=store,
            rules=rules(),
            dunning=DunningPolicy(),
            provider=provider or ScriptedProvider(),
            webhooks=WebhookSender(now_unix_ms, allow_private=allow_private, timeout_s=5),
            mailer=mailer,
            now_unix_ms=now_unix_ms,
            now_mono_ms=now_mono_ms or (lambda: float(now_unix_ms())),
            tick_s=0.05,
            allow_private_webhooks=allow_private,
        )
    )


@dataclass
class BilledFleet:
    """A coordinator's money: two accounts, and a clock in February."""

    folder: Path
    store: Store
    database: UsageDatabase
    clock: SetClock
    mono: SetClock
    provider: ScriptedProvider
    billing: Billing

    def forward(self, ms: int) -> None:
        """Let time pass on both clocks."""
        self.clock.unix_ms += ms
        self.mono.unix_ms += ms

    async def use(self, *deltas: UsageDelta) -> None:
        """Count usage; none: of one request now."""
        given = list(deltas) or [
            usage(
                at_unix_ms=self.clock(),
                closed_through_unix_ms=self.billing.closed_through_unix_ms(),
            )
        ]

        def published(result: None) -> None:
            self.billing.committed(given)

        await self.database.run(
            lambda connection: count(connection, given, self.clock()), published
        )

    def restarted(self, **kwargs: object) -> Billing:
        """Return billing as another process would have it, over the same database."""
        self.billing = billing_of(
            self.database,
            self.store,
            self.clock,
            provider=self.provider,
            now_mono_ms=self.mono,
            **kwargs,  # type: ignore[arg-type]
        )
        return self.billing


@contextlib.asynccontextmanager
async def billed_fleet(folder: Path, **kwargs: object) -> AsyncIterator[BilledFleet]:
    """Open the databases, and start billing without its task."""
    clock, mono = SetClock(), SetClock(0)
    clock.unix_ms = FEBRUARY
    store = await Store.open(folder / "coordinator.db", now_unix_ms=clock)
    database = await UsageDatabase.open(folder / "usage.db", clock)
    for name in ("acme", "b1"):
        await store.write(accounts.create(Account(name)))
    provider = ScriptedProvider()
    fleet = BilledFleet(folder, store, database, clock, mono, provider, None)  # type: ignore[arg-type]
    await fleet.restarted(**kwargs).start()
    try:
        yield fleet
    finally:
        await database.close()
        await store.close()
