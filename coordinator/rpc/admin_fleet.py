"""Calls about the whole fleet: prices, the audit, explanations of placement, forced tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.rpc.admin_base import AdminServicerBase
from coordinator.rpc.agent_questions import route_to_wire
from coordinator.store.records import AuditQuery
from protos.v1 import admin_pb2, fleet_pb2
from protos.wire import price_to_wire, resource_type_from_wire

if TYPE_CHECKING:
    from coordinator.rpc.identity import Context

#: The largest integer of the database.
_MAX_SEQ = (1 << 63) - 1


class FleetAdminServicer(AdminServicerBase):
    """Prices, audit, explanations, forced tables."""

    async def ListPrices(
        self, request: admin_pb2.ListPricesRequest, context: Context
    ) -> admin_pb2.ListPricesResponse:
        """Return the price card."""
        prices = await self._operations.prices.list_all(self._actor(context))
        return admin_pb2.ListPricesResponse(prices=map(price_to_wire, prices))

    async def ListAudit(
        self, request: admin_pb2.ListAuditRequest, context: Context
    ) -> admin_pb2.ListAuditResponse:
        """Return one page, newest first."""
        query = AuditQuery(
            limit=request.limit,
            before_seq=min(request.before_seq, _MAX_SEQ),
            actor=request.actor,
            action=request.action,
            since_unix_ms=request.since_unix_ms,
            strangers=request.strangers,
        )
        page = await self._operations.audit.list_page(self._actor(context), query)
        return admin_pb2.ListAuditResponse(
            entries=[
                admin_pb2.AuditEntry(
                    seq=record.seq,
                    at_unix_ms=record.at_unix_ms,
                    actor=record.note.actor,
                    action=record.note.action,
                    subject=record.note.subject,
                    detail=record.note.detail,
                )
                for record in page.entries
            ],
            more=page.more,
        )

    async def ExplainRoute(
        self, request: admin_pb2.ExplainRouteRequest, context: Context
    ) -> fleet_pb2.RouteExplanation:
        """Return how the agent that would get the request explains its placement."""
        route = await self._operations.routes.explain(
            self._actor(context),
            request.deployment,
            request.via,
            budget_ms=request.budget_ms,
            prompt_tokens=request.prompt_tokens,
        )
        return route_to_wire(route)

    async def ForceTable(
        self, request: admin_pb2.ForceTableRequest, context: Context
    ) -> admin_pb2.ForceTableResponse:
        """Push one table to all agents past their shrink guard."""
        resource_type = resource_type_from_wire(request.type)
        agents = await self._operations.tables.force(self._actor(context), resource_type)
        return admin_pb2.ForceTableResponse(agents=agents)
