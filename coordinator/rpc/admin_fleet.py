"""Calls about the whole fleet: prices, the audit, explanations of placement, forced tables."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from coordinator.rpc.admin_parts import AdminServicerBase, note_of
from protos.domain.errors import EngineFailed, InvalidRequest, LinkDown, NotFound
from protos.domain.ids import check_deployment_name
from protos.v1 import admin_pb2, fleet_pb2
from protos.wire import price_to_wire, resource_type_from_wire

if TYPE_CHECKING:
    from coordinator.rpc.identity import Context

DEFAULT_AUDIT_ENTRIES = 100
MAX_AUDIT_ENTRIES = 1_000
MAX_BUDGET_MS = 600_000.0
_EXPLAIN_TIMEOUT_MS = 5_000


class FleetAdminServicer(AdminServicerBase):
    """Prices, audit, explanations, forced tables."""

    async def ListPrices(
        self, request: admin_pb2.ListPricesRequest, context: Context
    ) -> admin_pb2.ListPricesResponse:
        """Return the price card."""
        prices = sorted(self._store.view().prices.items())
        return admin_pb2.ListPricesResponse(prices=[price_to_wire(price) for _, price in prices])

    async def ListAudit(
        self, request: admin_pb2.ListAuditRequest, context: Context
    ) -> admin_pb2.ListAuditResponse:
        """Return the newest entries, newest first."""
        limit = min(request.limit or DEFAULT_AUDIT_ENTRIES, MAX_AUDIT_ENTRIES)
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
                for record in await self._store.audit_entries(limit)
            ]
        )

    async def ExplainRoute(
        self, request: admin_pb2.ExplainRouteRequest, context: Context
    ) -> fleet_pb2.RouteExplanation:
        """Return how the agent that would get the request explains its placement."""
        name = check_deployment_name(request.deployment)
        deployments = self._store.view().deployments
        if name not in deployments:
            raise NotFound(
                f"there is no deployment {name!r}", _there_are("deployments", deployments)
            )
        if not (math.isfinite(request.budget_ms) and 0.0 <= request.budget_ms <= MAX_BUDGET_MS):
            raise InvalidRequest(f"a budget of {request.budget_ms} ms is not in 0..{MAX_BUDGET_MS}")
        node_id = self._agent_of(request.via)
        query = fleet_pb2.Query(
            timeout_ms=_EXPLAIN_TIMEOUT_MS,
            explain=fleet_pb2.ExplainQuery(
                deployment=name,
                budget_ms=request.budget_ms,
                prompt_tokens=request.prompt_tokens,
            ),
        )
        answer = await self._parts.ask_agent(node_id, query)
        if answer.error or answer.WhichOneof("content") != "explanation":
            raise EngineFailed(
                f"node {node_id!r} could not explain: {answer.error or 'an empty answer'}",
                "ask again when it has caught up: `edgeforge node ls`",
                code="explain_failed",
            )
        return answer.explanation

    async def ForceTable(
        self, request: admin_pb2.ForceTableRequest, context: Context
    ) -> admin_pb2.ForceTableResponse:
        """Push one table to all agents past their shrink guard."""
        resource_type = resource_type_from_wire(request.type)
        note = note_of(context, "table.force", f"table/{resource_type}")
        await self._store.audit(note.actor, note.action, note.subject, note.detail)
        agents = await self._parts.force_table(resource_type)
        return admin_pb2.ForceTableResponse(agents=agents)

    def _agent_of(self, via: str) -> str:
        """Return a connected node: ``via`` itself, or one in the POP it names."""
        records = self._store.node_records()
        if via in records:
            candidates = [via]
        else:
            pops = self._store.view().pops
            if via not in pops:
                raise NotFound(
                    f"{via[:80]!r} is neither a POP nor a node", _there_are("POPs", pops)
                )
            candidates = sorted(name for name, record in records.items() if record.pop_id == via)
        for node_id in candidates:
            live = self._parts.live.live_node(node_id)
            if live is not None and live.connected:
                return node_id
        raise LinkDown(f"no agent of {via} is connected", "`edgeforge node ls` shows which are")


def _there_are(what: str, names: Iterable[str]) -> str:
    shown = sorted(names)[:10]
    return f"{what}: {', '.join(shown)}" if shown else f"there are no {what} yet"
