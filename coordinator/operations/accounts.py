"""Accounts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from coordinator.core.account_zones import checked_zones
from coordinator.core.dunning import BILLING
from coordinator.core.members import AccountInfo
from coordinator.operations.acts import Act
from coordinator.operations.registry_objects import check_text
from coordinator.operations.use_case import UseCases, named, note_of, use_case
from coordinator.store import accounts, residency
from protos.domain.customers import Account, AccountState, UsageLimits
from protos.domain.errors import Conflict, InvalidRequest, NotFound
from protos.domain.ids import check_account_id

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor

MAX_REASON_CHARS = 300


@dataclass(frozen=True, slots=True)
class AccountShown:
    """An account with what is known of it, and how much it has."""

    account: Account
    info: AccountInfo
    members: int
    keys: int
    deployments: int


class Accounts(UseCases):
    """Customers. An account sees itself."""

    @use_case(Act.ACCOUNT_CREATE, named("account"))
    async def create(self, actor: Actor, account_id: str) -> str:
        """Create an account and return its name. Raises: InvalidRequest, Conflict."""
        check_account_id(account_id)
        note = note_of(actor, Act.ACCOUNT_CREATE, f"account/{account_id}")
        change = accounts.create(Account(account_id), created_by=str(actor))
        await self._store.write(change, note)
        return account_id

    @use_case(Act.ACCOUNT_LIST)
    async def list_all(self, actor: Actor) -> Sequence[AccountShown]:
        """Return every account, by name."""
        view, infos = self._store.view(), self._store.account_infos()
        counts = [
            Counter(one.account_id for one in those)
            for those in (
                self._store.members().values(),
                view.keys.values(),
                view.deployments.values(),
            )
        ]
        return [
            AccountShown(
                account, infos.get(name) or AccountInfo(name), *(one[name] for one in counts)
            )
            for name, account in sorted(view.accounts.items())
        ]

    @use_case(Act.ACCOUNT_SHOW, named("account"))
    async def show(self, actor: Actor, account_id: str = "") -> AccountShown:
        """Return one account; empty: the actor's own. Raises: NotFound."""
        name, view = actor.own(account_id), self._store.view()
        account = view.accounts.get(name)
        if account is None:
            raise NotFound(f"there is no account {name[:80]!r}", "`edgeforge account ls` shows all")
        return AccountShown(
            account,
            self._store.account_infos().get(name) or AccountInfo(name),
            members=sum(one.account_id == name for one in self._store.members().values()),
            keys=sum(one.account_id == name for one in view.keys.values()),
            deployments=sum(one.account_id == name for one in view.deployments.values()),
        )

    @use_case(Act.ACCOUNT_SUSPEND, named("account"))
    async def suspend(self, actor: Actor, account_id: str, reason: str) -> Account:
        """Refuse new requests of an account at every agent; running streams end as usual.

        Raises: InvalidRequest without a reason, NotFound, Conflict if it is suspended.
        """
        if not reason.strip():
            raise InvalidRequest("a suspension needs a reason", "say it with --reason")
        return await self._set_state(
            actor, Act.ACCOUNT_SUSPEND, account_id, AccountState.SUSPENDED, reason
        )

    @use_case(Act.ACCOUNT_RESUME, named("account"))
    async def resume(self, actor: Actor, account_id: str, reason: str = "") -> Account:
        """Admit requests of an account again, whatever it was refused for.

        Raises: InvalidRequest, NotFound, Conflict if nothing of it is refused.
        """
        return await self._set_state(
            actor, Act.ACCOUNT_RESUME, account_id, AccountState.ACTIVE, reason
        )

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

    async def _set_state(
        self, actor: Actor, act: Act, account_id: str, state: AccountState, reason: str
    ) -> Account:
        check_account_id(account_id)
        check_text(reason, "a reason", MAX_REASON_CHARS)
        present = self._store.view().accounts.get(account_id)
        info = self._store.account_infos().get(account_id)
        of_billing = info is not None and info.state_by == BILLING
        # An operator's suspension takes the place of billing's, which a payment would end.
        if present is not None and present.state is state and not of_billing:
            raise Conflict(f"account {account_id!r} is {state} already", retryable=False)
        note = note_of(actor, act, f"account/{account_id}", reason)
        return await self._store.write(
            accounts.set_state(account_id, state, reason.strip(), str(actor)), note
        )
