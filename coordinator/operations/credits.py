"""Credits of accounts, and what bounds their spending."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.billing import account_credits, customers
from coordinator.billing.account_credits import CreditRow, NewCredit
from coordinator.core.grants import Credit, CreditKind
from coordinator.operations.acts import Act
from coordinator.operations.billing_base import BillingUseCases
from coordinator.operations.use_case import named, use_case
from protos.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from coordinator.billing.customers import BilledAccount
    from coordinator.operations.actor import Actor

#: Largest monthly cap: ten million dollars.
MAX_CAP_NANO_USD = 10_000_000 * 10**9


class Credits(BillingUseCases):
    """Grants, prepaid credit, and caps."""

    @use_case(Act.CREDIT_GRANT, named("account"))
    async def grant(
        self,
        actor: Actor,
        account_id: str,
        *,
        nano_usd: int,
        reason: str,
        expires_unix_ms: int = 0,
        prepaid: bool = False,
    ) -> Credit:
        """Give a grant, or book prepaid money that came in by other means.

        Raises: InvalidRequest, NotFound.
        """
        account = self._account(actor, account_id)
        kind = CreditKind.PREPAID if prepaid else CreditKind.GRANT
        new = NewCredit(account, kind, nano_usd, reason, str(actor), expires_unix_ms)
        now = self._parts.now_unix_ms()

        given = await self._billing.database.write(account_credits.giving(new, now))
        detail = f"{kind} nano_usd={nano_usd} {reason}"
        await self._done(actor, Act.CREDIT_GRANT, f"account/{account}", detail)
        await self._billing.changed()
        return given

    @use_case(Act.CREDIT_LIST)
    async def list_all(self, actor: Actor, account_id: str = "") -> Sequence[CreditRow]:
        """Return credits, the newest first. Raises: NotFound."""
        account = self._scope(actor, account_id)
        return await self._billing.database.read(lambda one: account_credits.listed(one, account))

    @use_case(Act.ACCOUNT_FUNDS, named("account"))
    async def set_funds(
        self,
        actor: Actor,
        account_id: str,
        *,
        cap_nano_usd: int | None = None,
        prepaid: bool | None = None,
    ) -> BilledAccount:
        """Set a monthly cap (0: none), and whether requests need a balance; None: as it is.

        Raises: InvalidRequest, NotFound.
        """
        account = self._account(actor, account_id)
        if cap_nano_usd is not None:
            _check_cap(cap_nano_usd)

        def how(known: BilledAccount) -> BilledAccount:
            return replace(
                known,
                cap_nano_usd=known.cap_nano_usd if cap_nano_usd is None else cap_nano_usd,
                prepaid=known.prepaid if prepaid is None else prepaid,
            )

        changed = await self._billing.database.write(
            lambda one: customers.change(one, account, how)
        )
        detail = f"cap_nano_usd={changed.cap_nano_usd} prepaid={changed.prepaid}"
        await self._done(actor, Act.ACCOUNT_FUNDS, f"account/{account}", detail)
        await self._billing.changed()
        self._billing.wake()
        return changed

    @use_case(Act.ACCOUNT_OWN_CAP, named("account"))
    async def set_own_cap(
        self, actor: Actor, account_id: str = "", *, cap_nano_usd: int
    ) -> BilledAccount:
        """Set what an account bounds its own month to (0: nothing).

        Beside the operators' cap, which it neither changes nor lifts: the lower one of both holds.
        Raises: InvalidRequest, NotFound.
        """
        account = self._account(actor, account_id)
        _check_cap(cap_nano_usd)
        changed = await self._billing.database.write(
            lambda one: customers.change(
                one, account, lambda known: replace(known, own_cap_nano_usd=cap_nano_usd)
            )
        )
        detail = f"own_cap_nano_usd={cap_nano_usd}"
        await self._done(actor, Act.ACCOUNT_OWN_CAP, f"account/{account}", detail)
        await self._billing.changed()
        self._billing.wake()
        return changed


def _check_cap(cap_nano_usd: int) -> None:
    """Raises: InvalidRequest."""
    if not 0 <= cap_nano_usd <= MAX_CAP_NANO_USD:
        raise InvalidRequest("a cap is 0 to ten million dollars a month", "0 lifts it")
