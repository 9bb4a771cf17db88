"""Routes about alerts on spending: where they go, and what was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from coordinator.api.customer.route import Call, Model, Route
from coordinator.operations.acts import Act

if TYPE_CHECKING:
    from coordinator.operations.alerts import AlertTargets


class AlertsBody(Model):
    """Where alerts at 50, 80 and 100 % go. Left out: as it is; empty: nowhere."""

    url: str | None = Field(None, max_length=1_000)
    email: str | None = Field(None, max_length=254)


class AlertTargetsAnswer(Model):
    """Where alerts go."""

    url: str
    email: str
    secret: str = Field(
        repr=False, description="Signs webhooks; shown only when the address is set."
    )


class DeliveryAnswer(Model):
    """A message that was sent, or is to be."""

    id: str
    channel: str
    target: str
    state: str
    attempts: int
    last_error: str


class AlertsAnswer(Model):
    """Where alerts go, and what was sent."""

    url: str
    email: str
    deliveries: list[DeliveryAnswer]


def _targets(targets: AlertTargets) -> AlertTargetsAnswer:
    return AlertTargetsAnswer(url=targets.url, email=targets.email, secret=targets.secret)


async def _set_alerts(call: Call) -> AlertTargetsAnswer:
    body = call.given(AlertsBody)
    return _targets(
        await call.operations.alerts.set_targets(call.actor, "", url=body.url, email=body.email)
    )


async def _alerts(call: Call) -> AlertsAnswer:
    targets, sent = await call.operations.alerts.list_all(call.actor)
    return AlertsAnswer(
        url=targets.url,
        email=targets.email,
        deliveries=[
            DeliveryAnswer(
                id=one.id,
                channel=one.channel,
                target=one.target,
                state=one.state,
                attempts=one.attempts,
                last_error=one.last_error,
            )
            for one in sent
        ],
    )


ROUTES = (
    Route(
        "GET",
        "/v1/alerts",
        "show_alerts",
        "Show where alerts on spending go, and what was sent.",
        _alerts,
        Act.ALERT_LIST,
        AlertsAnswer,
    ),
    Route(
        "PUT",
        "/v1/alerts",
        "set_alerts",
        "Set where alerts at 50, 80 and 100 % go; a new address of a webhook gets a new secret.",
        _set_alerts,
        Act.ALERT_SET,
        AlertTargetsAnswer,
        body=AlertsBody,
    ),
)
