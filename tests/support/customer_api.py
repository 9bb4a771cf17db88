"""The customers' API on loopback over a real store, with two accounts and members of each role."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from coordinator.api.customer.access import Rates
from coordinator.api.customer.imports import ImportJobs
from coordinator.api.customer.listener import ApiListener, ApiParts
from coordinator.api.customer.route import Services
from coordinator.core.members import Member, MemberRole, SignUp
from coordinator.operations.member_secrets import MemberLogins
from coordinator.operations.operations import Operations
from coordinator.operations.refusals import RefusalRecorder
from coordinator.operations.sign_ups import SignUps
from coordinator.operations.upstream_imports import has_token
from coordinator.store import accounts, keys
from protos.domain.customers import Account
from tests.support.members import put_member
from tests.support.operations import CONNECTED, OperatedFleet, operated_fleet
from tests.support.stores import api_key

#: Of tests that send more than a customer may.
UNHURRIED = Rates(*[1e9] * 8)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was read whole."""

    status: int
    body: Any
    headers: dict[str, str]


@dataclass
class RunningApi:
    """A listener with a fleet behind it. Tokens by account and role."""

    fleet: OperatedFleet
    operations: Operations
    listener: ApiListener
    logins: MemberLogins
    session: aiohttp.ClientSession
    tokens: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.listener.port}"

    def token(self, role: str = "owner", account: str = "acme") -> str:
        return self.tokens[account, role]

    def member(self, account: str) -> Member:
        """Return a member of an account."""
        found = self.fleet.store.members().values()
        return next(one for one in found if one.account_id == account)

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = "",
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a request; ``token`` empty: that of acme's owner, None: none."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token or self.token()}"
        more: dict[str, Any] = {"json": body} if body is not None else {}
        if data is not None:
            more = {"data": data}
        async with self.session.request(
            method, aiohttp.client.URL(self.origin + path, encoded=True), headers=sent, **more
        ) as answer:
            text = await answer.read()
            is_json = answer.content_type == "application/json"
            content = await answer.json() if is_json and text else text
            return Answer(answer.status, content, dict(answer.headers))


@contextlib.asynccontextmanager
async def running_api(
    folder: Path,
    signup: SignUp = SignUp.INVITE,
    rates: Rates = UNHURRIED,
    payment_event: Callable[[bytes, str], Awaitable[None]] | None = None,
) -> AsyncIterator[RunningApi]:
    """An API of the accounts acme and globex, each with a member of every role and a key."""
    async with operated_fleet(folder) as (fleet, operations):
        fleet.nodes["iad-1"] = CONNECTED
        await fleet.store.write(accounts.create(Account("globex")))
        await fleet.store.write(keys.create(api_key("k-2", "globex"), fleet.clock()))
        tokens = {}
        for first, account_id in enumerate(("acme", "globex"), 1):
            for second, role in enumerate(MemberRole):
                number = f"{first}{second}"
                tokens[account_id, str(role)] = await put_member(
                    fleet.store, fleet.clock(), number, role, account_id
                )
        logins = MemberLogins(fleet.store, fleet.clock)

        def mono_ms() -> float:
            if rates is UNHURRIED:
                fleet.mono_ms += 3_600_000.0
            return fleet.mono_ms

        refusals = RefusalRecorder(fleet.store, mono_ms)
        services = Services(
            operations,
            SignUps(
                fleet.store,
                logins,
                refusals,
                signup,
                mono_ms,
                fleet.clock,
                fleet.billing.prepay,
                partial(has_token, operations.upstream_imports),
            ),
            ImportJobs(fleet.clock),
            fleet.clock,
        )
        parts = ApiParts(services, logins, rates=rates, payment_event=payment_event)
        listener = ApiListener(parts, "127.0.0.1", 0, max_connections=64)
        await listener.start()
        async with aiohttp.ClientSession() as session:
            try:
                yield RunningApi(fleet, operations, listener, logins, session, tokens)
            finally:
                await listener.close()
