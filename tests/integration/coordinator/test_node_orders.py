"""Orders for nodes over real TLS: accepted, refused, kept over a restart, audited."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.core.node_orders import NodeOrder, OrderKind
from coordinator.fleet.live import Accelerator, AcceleratorFault, LiveNode, NodeReport
from coordinator.store import node_orders, nodes, pops
from protos.domain.errors import Conflict, InvalidRequest, NotFound
from protos.v1 import admin_pb2, fleet_pb2
from tests.support.operator_listeners import failure_of
from tests.support.stores import GRU, audited, enrol, registration

CORDON = admin_pb2.NODE_ORDER_KIND_CORDON
DRAIN = admin_pb2.NODE_ORDER_KIND_DRAIN
RETIRE = admin_pb2.NODE_ORDER_KIND_RETIRE
RESUME = admin_pb2.NODE_ORDER_KIND_RESUME


@pytest.fixture
async def fleet(listeners):
    store = listeners.store
    await store.write(pops.put(GRU))
    await enrol(store, "gru-1", "GRU")
    await store.write(nodes.register(registration("gru-1", "vllm")))
    return listeners


def order(kind, **fields):
    return admin_pb2.OrderNodeRequest(node_id="gru-1", kind=kind, **fields)


@pytest.mark.parametrize(
    ("kind", "kept", "phase"),
    [
        (CORDON, OrderKind.CORDON, ""),
        (DRAIN, OrderKind.DRAIN, ""),
        (RETIRE, OrderKind.RETIRE, "moving"),
    ],
)
async def test_an_order_is_kept_shown_and_audited(fleet, admin, kind, kept, phase):
    info = await admin.OrderNode(order(kind, reason="new fans"))
    assert (info.order.kind, info.order.phase, info.order.reason) == (kind, phase, "new fans")
    standing = fleet.store.node_orders()["gru-1"]
    assert standing.kind is kept
    assert standing.by.startswith("operator/")
    (note,) = [one.note for one in await audited(fleet.store, 1)]
    assert (note.action, note.subject, note.detail) == (f"node.{kept}", "node/gru-1", "new fans")
    assert fleet.live.ordered == ["gru-1"]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (order(0), InvalidRequest),
        (order(DRAIN, reason="x" * 201), InvalidRequest),
        (order(DRAIN, reason="two\nlines"), InvalidRequest),
        (order(DRAIN, force=True), InvalidRequest),
        (admin_pb2.OrderNodeRequest(node_id="gru-9", kind=DRAIN), NotFound),
        (admin_pb2.OrderNodeRequest(node_id="../x", kind=DRAIN), InvalidRequest),
    ],
)
async def test_an_invalid_order_is_refused_and_none_is_kept(fleet, admin, request_, error):
    assert type(await failure_of(admin.OrderNode(request_))) is error
    assert fleet.store.node_orders() == {}


async def test_a_resume_queries_the_agent_and_is_refused_while_a_fault_is_active(fleet, admin):
    await admin.OrderNode(order(DRAIN))
    fleet.live.nodes["gru-1"] = LiveNode(connected=True, last_status_age_s=0.1)
    fault = fleet_pb2.AcceleratorFault(detail="GPU 0 is lost", fatal=True, active=True)
    fleet.live.answers["gru-1"] = fleet_pb2.Answer(
        resumption=fleet_pb2.Resumption(standing=[fault])
    )
    error = await failure_of(admin.OrderNode(order(RESUME)))
    assert type(error) is Conflict
    assert "GPU 0 is lost" in error.message
    assert fleet.store.node_orders()
    assert fleet.live.resumed == []
    fleet.live.answers["gru-1"] = fleet_pb2.Answer(resumption=fleet_pb2.Resumption())
    info = await admin.OrderNode(order(RESUME))
    assert not info.HasField("order")
    assert fleet.live.resumed == ["gru-1"]
    assert fleet.store.node_orders() == {}


async def test_a_disconnected_node_can_be_resumed_without_a_query(fleet, admin):
    await admin.OrderNode(order(DRAIN))
    await admin.OrderNode(order(RESUME))
    assert fleet.live.asked == []
    assert fleet.store.node_orders() == {}


async def test_what_a_node_reports_of_its_accelerators_is_shown(fleet, admin):
    gpu = fleet_pb2.Accelerator(id="GPU-1", name="H100", utilisation_ratio=0.5)
    fault = fleet_pb2.AcceleratorFault(detail="GPU 0: XID 79", fatal=True)
    fleet.live.nodes["gru-1"] = LiveNode(
        connected=True,
        last_status_age_s=0.1,
        report=NodeReport(
            accelerators=(Accelerator("GPU-1", 0, "H100", utilisation_ratio=0.5),),
            faults=(AcceleratorFault("GPU 0: XID 79", fatal=True),),
        ),
    )
    (info,) = (await admin.ListNodes(admin_pb2.ListNodesRequest())).nodes
    assert list(info.accelerators) == [gpu]
    assert list(info.faults) == [fault]


async def test_the_order_of_a_removed_node_is_deleted(fleet, admin):
    await admin.OrderNode(order(DRAIN))
    await admin.RemoveNode(admin_pb2.RemoveNodeRequest(node_id="gru-1"))
    assert fleet.store.node_orders() == {}
    standing = NodeOrder(OrderKind.DRAIN, "coordinator", "x", 1)
    with pytest.raises(NotFound):
        await fleet.store.write(node_orders.put("gru-1", replace(standing, reason="late")))
