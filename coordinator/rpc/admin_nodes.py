"""POPs and the nodes in them."""

from __future__ import annotations

import hashlib
import math
import secrets
from typing import TYPE_CHECKING

from coordinator.rpc.admin_parts import AdminServicerBase, note_of
from coordinator.rpc.identity import peer_identity
from coordinator.rpc.order_messages import order_of, order_to_wire, resume_refused
from coordinator.store.records import NodeRecord, TokenRecord
from protos.domain.errors import Conflict, InvalidRequest, NotFound
from protos.domain.ids import check_node_id, check_pop_id, check_zone
from protos.domain.resources import Pop, ResourceType
from protos.v1 import admin_pb2, fleet_pb2, resources_pb2
from protos.wire import have_to_wire, node_to_wire, pop_from_wire, pop_to_wire, tier_from_wire

if TYPE_CHECKING:
    from coordinator.rpc.identity import Context

DEFAULT_TOKEN_TTL_S = 3_600
MAX_TOKEN_TTL_S = 24 * 3_600
_MAX_CITY_CHARS = 100
_RESUME_TIMEOUT_MS = 5_000
_SECRET_BYTES = 32
_SHARED = tuple(one for one in ResourceType if one is not ResourceType.DESIRED)


class NodeAdminServicer(AdminServicerBase):
    """POPs, enrolment tokens, nodes."""

    async def CreatePop(
        self, request: admin_pb2.CreatePopRequest, context: Context
    ) -> resources_pb2.Pop:
        """Create a POP, or change one that has no node yet."""
        pop = _checked_pop(request.pop)
        present = self._store.view().pops.get(pop.id)
        in_use = sorted(
            node_id
            for node_id, record in self._store.node_records().items()
            if record.pop_id == pop.id
        )
        if present is not None and present != pop and in_use:
            raise Conflict(
                f"POP {pop.id} exists with other facts and holds {', '.join(in_use[:5])}",
                "prices and residency hang on a POP: remove its nodes first",
                retryable=False,
            )
        detail = f"tier={pop.tier} zone={pop.zone} city={pop.city}"
        await self._store.put_pop(pop, note=note_of(context, "pop.create", f"pop/{pop.id}", detail))
        return pop_to_wire(pop)

    async def ListPops(
        self, request: admin_pb2.ListPopsRequest, context: Context
    ) -> admin_pb2.ListPopsResponse:
        """Return every POP by name."""
        pops = sorted(self._store.view().pops.values(), key=lambda pop: pop.id)
        return admin_pb2.ListPopsResponse(pops=[pop_to_wire(pop) for pop in pops])

    async def CreateNodeToken(
        self, request: admin_pb2.CreateNodeTokenRequest, context: Context
    ) -> admin_pb2.CreateNodeTokenResponse:
        """Return a token that enrols one node, once; only the digest of its secret is kept."""
        check_pop_id(request.pop_id)
        if request.node_id:
            check_node_id(request.node_id)
        ttl_s = request.ttl_s or DEFAULT_TOKEN_TTL_S
        if ttl_s > MAX_TOKEN_TTL_S:
            raise InvalidRequest(
                f"a token lives at most {MAX_TOKEN_TTL_S} s, not {ttl_s}",
                "make it when the host is ready to enrol",
            )
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        token = await self._store.create_token(
            TokenRecord(
                id=secrets.token_hex(8),
                secret_sha256=hashlib.sha256(secret.encode()).digest(),
                pop_id=request.pop_id,
                node_id=request.node_id,
                expires_unix_ms=self._parts.now_unix_ms() + ttl_s * 1_000,
            ),
            note=note_of(context, "token.create", "", f"pop={request.pop_id} ttl_s={ttl_s}"),
        )
        return admin_pb2.CreateNodeTokenResponse(
            token=f"EF1.{self._parts.authority.sha256_hex}.{token.id}.{secret}",
            node_id=token.node_id,
            expires_unix_ms=token.expires_unix_ms,
            enrolment_address=self._parts.enrolment_address,
        )

    async def ListNodes(
        self, request: admin_pb2.ListNodesRequest, context: Context
    ) -> admin_pb2.ListNodesResponse:
        """Return every enrolled node by name, with its last report."""
        records = sorted(self._store.node_records().items())
        return admin_pb2.ListNodesResponse(nodes=[self._node_info(one) for _, one in records])

    async def RemoveNode(
        self, request: admin_pb2.RemoveNodeRequest, context: Context
    ) -> admin_pb2.RemoveNodeResponse:
        """Remove a node from every table, which also revokes its certificate."""
        check_node_id(request.node_id)
        await self._store.remove_node(
            request.node_id, note=note_of(context, "node.remove", f"node/{request.node_id}")
        )
        return admin_pb2.RemoveNodeResponse()

    async def OrderNode(
        self, request: admin_pb2.OrderNodeRequest, context: Context
    ) -> admin_pb2.NodeInfo:
        """Drain, cordon, retire or resume a node. Raises: Conflict while a fault is active."""
        node_id = check_node_id(request.node_id)
        if node_id not in self._store.node_records():
            raise NotFound(f"no node {node_id!r} is enrolled", "`edgeforge node ls` shows them")
        if request.kind == admin_pb2.NODE_ORDER_KIND_RESUME:
            await self._resume(node_id, context)
        else:
            by = str(peer_identity(context))
            order = order_of(request, by=by, now_unix_ms=self._parts.now_unix_ms())
            note = note_of(context, f"node.{order.kind}", f"node/{node_id}", order.reason)
            await self._store.put_node_order(node_id, order, note=note)
            self._parts.on_ordered(node_id)
        return self._node_info(self._store.node_records()[node_id])

    async def _resume(self, node_id: str, context: Context) -> None:
        """Delete the node's order, if its agent reports no fault. Raises: Conflict."""
        live = self._parts.live.live_node(node_id)
        if live is not None and live.connected:
            query = fleet_pb2.Query(timeout_ms=_RESUME_TIMEOUT_MS, resume=fleet_pb2.ResumeQuery())
            answer = await self._parts.ask_agent(node_id, query)
            if answer.resumption.standing:
                raise resume_refused(node_id, answer.resumption)
            self._parts.on_resumed(node_id)
        note = note_of(context, "node.resume", f"node/{node_id}")
        await self._store.put_node_order(node_id, None, note=note)
        self._parts.on_ordered(node_id)

    def _node_info(self, record: NodeRecord) -> admin_pb2.NodeInfo:
        node_id = record.node_id
        listed = self._store.view().nodes.get(node_id)
        live = self._parts.live.live_node(node_id)
        tables = [self._store.table(one) for one in _SHARED]
        tables.append(self._store.table(ResourceType.DESIRED, node_id))
        info = admin_pb2.NodeInfo(
            # A node that has never connected has neither addresses nor health.
            node=node_to_wire(listed)
            if listed
            else resources_pb2.Node(id=node_id, pop_id=record.pop_id),
            engine_kind=record.engine_kind,
            agent_version=record.agent_version,
            last_status_age_s=-1.0,
            current=[have_to_wire(table) for table in tables],
        )
        if live is not None:
            info.connected = live.connected
            info.last_status_age_s = live.last_status_age_s
            info.in_flight_requests = live.in_flight_requests
            info.credentials_age_s = live.credentials_age_s
            info.certificate_age_s = live.certificate_age_s
            info.replicas.extend(live.replicas)
            info.have.extend(live.have)
            info.accelerators.extend(live.accelerators)
            info.faults.extend(live.faults)
            info.engine_in_flight_requests = live.engine_in_flight_requests
            if live.service is not None:
                info.service.CopyFrom(live.service)
        order = self._store.node_orders().get(node_id)
        if order is not None:
            info.order.CopyFrom(order_to_wire(order, self._store.view()))
        return info


def _checked_pop(message: resources_pb2.Pop) -> Pop:
    """Raises: InvalidRequest."""
    check_pop_id(message.id)
    check_zone(message.zone)
    tier_from_wire(message.tier)
    pop = pop_from_wire(message)
    if not (math.isfinite(pop.latitude_deg) and abs(pop.latitude_deg) <= 90.0):
        raise InvalidRequest(f"latitude {pop.latitude_deg} is not in -90..90")
    if not (math.isfinite(pop.longitude_deg) and abs(pop.longitude_deg) <= 180.0):
        raise InvalidRequest(f"longitude {pop.longitude_deg} is not in -180..180")
    if not 0 < len(pop.city) <= _MAX_CITY_CHARS or not pop.city.isprintable():
        raise InvalidRequest(f"a city is 1 to {_MAX_CITY_CHARS} printable characters")
    return pop
