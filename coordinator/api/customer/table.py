"""Every route of the customers' API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.api.customer import (
    account_routes,
    alert_routes,
    deployment_routes,
    invoice_routes,
    key_routes,
    member_routes,
    payment_routes,
    price_routes,
    registry_routes,
    sla_routes,
    trace_routes,
    usage_routes,
)

if TYPE_CHECKING:
    from coordinator.api.customer.route import Route

ROUTES: tuple[Route, ...] = (
    *account_routes.ROUTES,
    *member_routes.ROUTES,
    *key_routes.ROUTES,
    *registry_routes.ROUTES,
    *deployment_routes.ROUTES,
    *trace_routes.ROUTES,
    *price_routes.ROUTES,
    *usage_routes.ROUTES,
    *sla_routes.ROUTES,
    *invoice_routes.ROUTES,
    *payment_routes.ROUTES,
    *alert_routes.ROUTES,
)
