"""A coordinator's money for simulations: databases that are closed and opened again, a clock."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.billing.billing import Billing, BillingParts
from coordinator.billing.invoices import InvoiceRules
from coordinator.billing.payments import CardSetup, Charge, Charged, ChargeState, PaymentEvent
from coordinator.billing.webhooks import WebhookSender
from coordinator.blobs.folder import FolderStore
from coordinator.ca.authority import CertificateAuthority
from coordinator.core.dunning import DunningPolicy
from coordinator.core.months import ClosePolicy
from coordinator.core.tax import VatTable
from coordinator.operations.operations import Operations
from coordinator.store.store import Store
from coordinator.usage.database import UsageDatabase
from coordinator.usage.exports import UsageExports
from coordinator.usage.ingest import Ingest
from coordinator.usage.known import read_known
from protos.domain.errors import LinkDown, Unauthenticated
from protos.domain.fleet_view import with_changes
from tests.support import stores
from tests.support.billing import SELLER
from tests.support.operations import OperatedFleet
from tests.support.stores import SetClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.billing.mail import Mailer
    from protos.domain.resources import CardTerms, Replica

RATES = {"DE": 1_900, "FR": 2_000, "HU": 2_700}


@dataclass
class Cards:
    """A provider of payments: it decides by a script, and remembers what it has taken, by key."""

    #: The key -> what comes of it; LinkDown: it was charged, and the answer was lost.
    decide: Callable[[str], str]
    name: str = "scripted"
    #: Key -> cents and customer: what left somebody's card.
    taken: dict[str, tuple[str, int]] = field(default_factory=dict)
    #: Charges that are under way.
    pending: dict[str, Charge] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    #: Keys whose success was told.
    succeeded: list[str] = field(default_factory=list)

    async def create_customer(self, account: str, name: str, email: str) -> str:
        return account

    async def set_up_card(self, customer: str) -> CardSetup:
        return CardSetup("setup", "secret")

    async def has_card(self, customer: str) -> bool:
        return True

    async def charge(self, charge: Charge) -> Charged:
        self.asked.append(charge.key)
        if charge.key in self.taken:
            return self._told(charge.key)
        outcome = self.decide(charge.key)
        if outcome == "declined":
            return Charged(ChargeState.FAILED, charge.key, "declined")
        if outcome == "pending":
            self.pending[charge.key] = charge
            return Charged(ChargeState.PENDING, charge.key)
        if outcome == "away":
            raise LinkDown("the provider cannot be reached")
        self.taken[charge.key] = (charge.customer, charge.cents)
        if outcome == "lost":
            raise LinkDown("the answer was lost")
        return self._told(charge.key)

    def _told(self, key: str) -> Charged:
        self.succeeded.append(key)
        return Charged(ChargeState.SUCCEEDED, key)

    async def find(self, charge: Charge) -> Charged | None:
        """Return what is known of a charge; None: it never came."""
        if charge.key in self.taken:
            return self._told(charge.key)
        pending = Charged(ChargeState.PENDING, charge.key)
        return pending if charge.key in self.pending else None

    def event_of(self, payload: bytes, signature: str) -> PaymentEvent:
        """Return what became of a charge: ``payload`` is its key."""
        if signature != "right":
            raise Unauthenticated("forged")
        key = payload.decode()
        charge = self.pending.pop(key, None)
        if charge is not None:
            self.taken[key] = (charge.customer, charge.cents)
        return PaymentEvent(f"event-{key}", key, self._told(key))


@dataclass
class Mails:
    """Mail that arrives; it stands for a server."""

    sent: list[tuple[str, str, str]] = field(default_factory=list)

    async def send(self, target: str, subject: str, text: str, number: str) -> None:
        self.sent.append((target, subject, number))


class Coordinator:
    """The databases, ingest, billing and reports; ``restart`` ends the process, as it were."""

    store: Store
    database: UsageDatabase
    billing: Billing
    ingest: Ingest
    exports: UsageExports
    ops: Operations

    def __init__(self, folder: Path, provider: Cards, start_unix_ms: int) -> None:
        self.folder = folder
        self.provider = provider
        self.clock, self.mono = SetClock(start_unix_ms), SetClock(0)
        self.mails = Mails()
        self.replicas: list[Replica] = []
        self.blobs = FolderStore.open(folder / "blobs", max_blob_bytes=10**9)
        # Of no use here, but every coordinator has one.
        ca = folder / f"ca-{secrets.token_hex(4)}"
        self.authority = CertificateAuthority.create(ca, now_unix_ms=self.clock)

    def forward(self, ms: int) -> None:
        """Let time pass on both clocks."""
        self.clock.unix_ms += ms
        self.mono.unix_ms += ms

    async def open(self) -> None:
        """Begin, as ``coordinator.assembly`` does."""
        self.store = await Store.open(self.folder / "coordinator.db", now_unix_ms=self.clock)
        self.database = await UsageDatabase.open(self.folder / "usage.db", self.clock)
        self.billing = self._billing()
        await self.billing.start()
        self.ingest = Ingest(
            self.database,
            post=self.billing.post,
            committed=self.billing.committed,
            closed_through_unix_ms=self.billing.closed_through_unix_ms,
            known=await read_known(self.database),
        )
        self.saw()
        self.store.on_change(lambda resource_type, scope: self.saw())
        self.exports = UsageExports(self.database, self.blobs)
        await self.exports.start()
        fleet = OperatedFleet(self.store, self.clock, self.authority, self.database, self.billing)
        self.ops = fleet.operations(self.blobs)

    def saw(self) -> None:
        """Show ingest the table, with replicas, which agents report."""
        self.ingest.saw(with_changes(self.store.view(), (), self.replicas))

    async def close(self) -> None:
        """End."""
        await self.database.close()
        await self.store.close()

    async def restart(self) -> None:
        """End and begin again; nothing monotonic is left."""
        await self.close()
        self.mono.unix_ms = 7
        await self.open()

    def _billing(self) -> Billing:
        store = self.store

        def terms_of(version: int) -> CardTerms | None:
            card = store.price_cards().get(version)
            return None if card is None else card.terms

        return Billing(
            BillingParts(
                database=self.database,
                store=store,
                rules=InvoiceRules(SELLER, VatTable("DE", RATES), ClosePolicy(), terms_of),
                dunning=DunningPolicy(),
                provider=self.provider,
                webhooks=WebhookSender(self.clock, allow_private=False),
                mailer=_as_mailer(self.mails),
                now_unix_ms=self.clock,
                now_mono_ms=self.mono,
            )
        )


def _as_mailer(mails: Mails) -> Mailer:
    return mails  # type: ignore[return-value]


@contextlib.asynccontextmanager
async def coordinator(folder: Path, provider: Cards, start_unix_ms: int):
    """Open a coordinator that may be restarted."""
    made = Coordinator(folder, provider, start_unix_ms)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


async def enrol(made: Coordinator) -> None:
    """Enrol the nodes of both POPs; each holds the model."""
    from coordinator.store import models, nodes, pops

    for pop, node in ((stores.GRU, "gru-1"), (stores.IAD, "iad-1")):
        await made.store.write(pops.put(pop))
        await stores.enrol(made.store, node, pop.id)
        await made.store.write(nodes.register(stores.registration(node)))
    await made.store.write(models.register(stores.MODEL, stores.FILES))
    made.replicas = [stores.replica(node) for node in ("gru-1", "iad-1")]
    made.saw()
