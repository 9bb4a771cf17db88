"""Traces of the fleet's agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.rpc.admin_base import AdminServicerBase
from coordinator.rpc.agent_questions import cursor_to_wire, filter_of, line_to_wire
from protos.v1 import admin_pb2, trace_pb2
from protos.wire import trace_to_wire

if TYPE_CHECKING:
    from coordinator.rpc.identity import Context


class TraceAdminServicer(AdminServicerBase):
    """Lists and single traces."""

    async def ListTraces(
        self, request: admin_pb2.ListTracesRequest, context: Context
    ) -> admin_pb2.ListTracesResponse:
        """Merge the lists of all agents; name those that could not be asked."""
        page = await self._operations.traces.list_page(
            self._actor(context), filter_of(request.filter), request.via
        )
        return admin_pb2.ListTracesResponse(
            traces=map(line_to_wire, page.traces),
            next=None if page.after is None else cursor_to_wire(page.after),
            searched=page.searched,
            unsearched=[
                admin_pb2.Unsearched(node_id=one.node_id, reason=one.reason)
                for one in page.unsearched
            ],
        )

    async def GetTrace(
        self, request: admin_pb2.GetTraceRequest, context: Context
    ) -> trace_pb2.Trace:
        """Find one trace. Agents that could not be asked are named, since they may hold it."""
        found = await self._operations.traces.find(
            self._actor(context), request.trace_id, request.via
        )
        return trace_to_wire(found)
