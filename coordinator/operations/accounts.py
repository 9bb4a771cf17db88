"""Accounts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

from coordinator.core.account_zones import checked_zones
from coordinator.operations.acts import Act
from coordinator.operations.use_case import UseCases, named, note_of, use_case
from coordinator.store import accounts, residency
from protos.domain.customers import Account, UsageLimits
from protos.domain.ids import check_account_id

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor


class Accounts(UseCases):
    """Customers."""

    @use_case(Act.ACCOUNT_CREATE, named("account"))
    async def create(self, actor: Actor, account_id: str) -> str:
        """Create an account and return its name. Raises: InvalidRequest, Conflict."""
        check_account_id(account_id)
        note = note_of(actor, Act.ACCOUNT_CREATE, f"account/{account_id}")
        await self._store.write(accounts.create(Account(account_id)), note)
        return account_id

    @use_case(Act.ACCOUNT_LIST)
    async def list_all(self, actor: Actor) -> Sequence[Account]:
        """Return every account, by name."""
        known = self._store.view().accounts
        return [known[name] for name in sorted(known)]

    @use_case(Act.ACCOUNT_LIMITS, named("account"))
    async def set_limits(
        self,
        actor: Actor,
        account_id: str,
        *,
        max_concurrent_sequences: int | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
    ) -> Account:
        """Change what an account may use at each agent; None: as it is, 0: no limit.

        Raises: InvalidRequest, NotFound.
        """
        check_account_id(account_id)
        change = partial(
            UsageLimits.changed,
            max_concurrent_sequences=max_concurrent_sequences,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
        )
        detail = " ".join(
            f"{name}={value}" for name, value in change.keywords.items() if value is not None
        )
        note = note_of(actor, Act.ACCOUNT_LIMITS, f"account/{account_id}", detail)
        return await self._store.write(accounts.set_limits(account_id, change), note)

    @use_case(Act.ACCOUNT_ZONES, named("account"))
    async def set_zones(self, actor: Actor, account_id: str, zones: Collection[str]) -> Account:
        """Bind an account to zones, none: to nothing. Its keys and deployments only get narrower.

        Raises: InvalidRequest, NotFound; Conflict for one of them that would have no zone left.
        """
        check_account_id(account_id)
        bound = checked_zones(zones)
        note = note_of(
            actor, Act.ACCOUNT_ZONES, f"account/{account_id}", f"zones={','.join(bound) or 'any'}"
        )
        account = await self._store.write(residency.set_zones(account_id, bound), note)
        self._parts.on_plan_changed()
        return account
