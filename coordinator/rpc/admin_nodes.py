"""POPs and the nodes in them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from coordinator.rpc.admin_base import AdminServicerBase
from coordinator.rpc.order_messages import order_to_wire
from coordinator.rpc.report_messages import haves_to_wire, show_report
from protos.domain.errors import InvalidRequest
from protos.v1 import admin_pb2, resources_pb2
from protos.wire import node_to_wire, pop_from_wire, pop_to_wire, tier_from_wire

if TYPE_CHECKING:
    from coordinator.operations.nodes import NodeStatus
    from coordinator.rpc.identity import Context


class NodeAdminServicer(AdminServicerBase):
    """POPs, enrolment tokens, nodes."""

    async def CreatePop(
        self, request: admin_pb2.CreatePopRequest, context: Context
    ) -> resources_pb2.Pop:
        """Create a POP, or change one that has no node yet."""
        tier_from_wire(request.pop.tier)
        pop = pop_from_wire(request.pop)
        return pop_to_wire(await self._operations.pops.create(self._actor(context), pop))

    async def ListPops(
        self, request: admin_pb2.ListPopsRequest, context: Context
    ) -> admin_pb2.ListPopsResponse:
        """Return every POP by name."""
        pops = await self._operations.pops.list_all(self._actor(context))
        return admin_pb2.ListPopsResponse(pops=map(pop_to_wire, pops))

    async def CreateNodeToken(
        self, request: admin_pb2.CreateNodeTokenRequest, context: Context
    ) -> admin_pb2.CreateNodeTokenResponse:
        """Return a token that enrols one node, once; only the digest of its secret is kept."""
        token = await self._operations.enrolment_tokens.create(
            self._actor(context), request.pop_id, node_id=request.node_id, ttl_s=request.ttl_s
        )
        return admin_pb2.CreateNodeTokenResponse(
            token=token.text,
            node_id=token.node_id,
            expires_unix_ms=token.expires_unix_ms,
            enrolment_address=token.enrolment_address,
        )

    async def ListNodes(
        self, request: admin_pb2.ListNodesRequest, context: Context
    ) -> admin_pb2.ListNodesResponse:
        """Return every enrolled node by name, with its last report."""
        nodes = await self._operations.nodes.list_all(self._actor(context))
        return admin_pb2.ListNodesResponse(nodes=map(_info, nodes))

    async def RemoveNode(
        self, request: admin_pb2.RemoveNodeRequest, context: Context
    ) -> admin_pb2.RemoveNodeResponse:
        """Remove a node from every table, which also revokes its certificate."""
        await self._operations.nodes.remove(
            self._actor(context), request.node_id, force=request.force
        )
        return admin_pb2.RemoveNodeResponse()

    async def ReplaceNode(
        self, request: admin_pb2.ReplaceNodeRequest, context: Context
    ) -> admin_pb2.ReplaceNodeResponse:
        """Give a node's pins to another one, and remove it."""
        deployments = await self._operations.nodes.replace(
            self._actor(context), request.old_node_id, request.new_node_id
        )
        return admin_pb2.ReplaceNodeResponse(deployments=deployments)

    async def OrderNode(
        self, request: admin_pb2.OrderNodeRequest, context: Context
    ) -> admin_pb2.NodeInfo:
        """Drain, cordon, retire or resume a node. Raises: Conflict while a fault is active."""
        actor, nodes = self._actor(context), self._operations.nodes
        node_id, reason = request.node_id, request.reason
        if request.force and request.kind != admin_pb2.NODE_ORDER_KIND_RETIRE:
            raise InvalidRequest("only a retirement can be forced")
        match request.kind:
            case admin_pb2.NODE_ORDER_KIND_RESUME:
                status = await nodes.resume(actor, node_id)
            case admin_pb2.NODE_ORDER_KIND_CORDON:
                status = await nodes.cordon(actor, node_id, reason)
            case admin_pb2.NODE_ORDER_KIND_DRAIN:
                status = await nodes.drain(actor, node_id, reason)
            case admin_pb2.NODE_ORDER_KIND_RETIRE:
                status = await nodes.retire(actor, node_id, reason, force=request.force)
            case _:
                raise InvalidRequest("the order is none of cordon, drain, retire, resume")
        return _info(status)


def _info(status: NodeStatus) -> admin_pb2.NodeInfo:
    record, live = status.record, status.live
    info = admin_pb2.NodeInfo(
        # A node that has never connected has neither addresses nor health.
        node=node_to_wire(status.node)
        if status.node
        else resources_pb2.Node(id=record.node_id, pop_id=record.pop_id),
        engine_kind=record.engine_kind,
        agent_version=record.agent_version,
        last_status_age_s=-1.0,
        current=haves_to_wire(status.current),
        **asdict(record.hardware),
    )
    if live is not None:
        info.connected = live.connected
        info.twin = live.twin
        info.last_status_age_s = live.last_status_age_s
        show_report(live.report, info)
        info.claims.extend(
            admin_pb2.NodeClaim(kind=one.kind, detail=one.detail) for one in live.claims
        )
    if (dial := status.dial) is not None:
        info.peer_dial.CopyFrom(
            admin_pb2.PeerDial(by=dial.by, failure=dial.failure, age_s=status.dial_age_s)
        )
    if status.order is not None:
        info.order.CopyFrom(order_to_wire(status.order, status.ready_moves))
    return info
