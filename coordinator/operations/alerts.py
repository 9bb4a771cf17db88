"""Where alerts on spending go."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from coordinator.billing import alerting, customers
from coordinator.billing.webhooks import check_url
from coordinator.operations.acts import Act
from coordinator.operations.billing_base import BillingUseCases
from coordinator.operations.use_case import named, use_case

if TYPE_CHECKING:
    from coordinator.billing.alerting import Delivery
    from coordinator.billing.customers import BilledAccount
    from coordinator.operations.actor import Actor

_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class AlertTargets:
    """Where alerts of an account go. ``secret`` is shown when it is made, and never again."""

    account: str
    url: str
    email: str
    secret: str = field(default="", repr=False)


class AlertSettings(BillingUseCases):
    """Alerts at 50, 80 and 100 % of a cap or a balance."""

    @use_case(Act.ALERT_SET, named("account"))
    async def set_targets(
        self,
        actor: Actor,
        account_id: str,
        *,
        url: str | None = None,
        email: str | None = None,
    ) -> AlertTargets:
        """Set a webhook, an email address, or both; empty: none, None: as it is.

        A new webhook gets a new secret. Raises: InvalidRequest, NotFound.
        """
        account = self._account(actor, account_id)
        if url:
            check_url(url, allow_private=self._billing.parts.allow_private_webhooks)
        mail = None if email is None else customers.check_email(email)
        secret = secrets.token_urlsafe(_SECRET_BYTES) if url else ""

        def how(known: BilledAccount) -> BilledAccount:
            changed = replace(known, alert_email=known.alert_email if mail is None else mail)
            if url is not None:
                changed = replace(changed, alert_url=url, alert_secret=secret)
            return changed

        kept = await self._billing.database.write(lambda one: customers.change(one, account, how))
        await self._done(actor, Act.ALERT_SET, f"account/{account}")
        return AlertTargets(account, kept.alert_url, kept.alert_email, secret)

    @use_case(Act.ALERT_LIST, named("account"))
    async def list_all(
        self, actor: Actor, account_id: str = ""
    ) -> tuple[AlertTargets, Sequence[Delivery]]:
        """Return where alerts go and what was sent. Raises: NotFound."""
        account = self._account(actor, account_id)
        kept = await self._billing.database.read(lambda one: customers.load(one, account))
        sent = await self._billing.database.read(lambda one: alerting.deliveries(one, account))
        return AlertTargets(account, kept.alert_url, kept.alert_email), sent

    @use_case(Act.ALERT_TEST, named("account"))
    async def test(self, actor: Actor, account_id: str = "") -> Sequence[Delivery]:
        """Send a test to every target at once. Raises: InvalidRequest, NotFound."""
        account = self._account(actor, account_id)
        made = await self._billing.alerts.test(account)
        await self._done(actor, Act.ALERT_TEST, f"account/{account}")
        return made
