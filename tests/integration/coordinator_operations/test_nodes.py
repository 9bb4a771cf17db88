"""Orders for nodes, without any wire."""

from __future__ import annotations

import pytest

from coordinator.core.node_orders import Move, NodeOrder, OrderKind, Phase
from coordinator.store import node_orders, replicas
from coordinator.store.records import AuditNote
from protos.domain.errors import Conflict, InvalidRequest, NotFound
from protos.domain.resources import ResourceType
from tests.support.operations import CONNECTED, NODE, actor
from tests.support.stores import MODEL, replica


async def test_a_node_with_a_fault_is_not_resumed(fleet, ops):
    await ops.nodes.drain(actor(), NODE, "fans")
    fleet.agents.standing = ["GPU 0 is lost"]
    with pytest.raises(Conflict, match="GPU 0 is lost"):
        await ops.nodes.resume(actor(), NODE)
    assert fleet.store.node_orders()[NODE].kind is OrderKind.DRAIN
    assert fleet.resumed == []
    fleet.agents.standing = []
    assert (await ops.nodes.resume(actor(), NODE)).order is None
    assert fleet.resumed == [NODE]


async def test_a_node_that_is_away_is_resumed_without_asking_it(fleet, ops):
    fleet.nodes.clear()
    await ops.nodes.cordon(actor(), NODE, "")
    await ops.nodes.resume(actor(), NODE)
    assert (fleet.agents.asked, fleet.resumed) == ([], [])
    assert fleet.ordered == [NODE, NODE]


@pytest.mark.parametrize(
    ("node_id", "reason", "error"),
    [
        ("gru-9", "", NotFound),
        ("../x", "", InvalidRequest),
        (NODE, "x" * 201, InvalidRequest),
        (NODE, "two\nlines", InvalidRequest),
    ],
)
async def test_an_invalid_order_is_refused_and_none_is_kept(fleet, ops, node_id, reason, error):
    with pytest.raises(error):
        await ops.nodes.drain(actor(), node_id, reason)
    assert fleet.store.node_orders() == {}


async def test_the_moves_of_a_retirement_show_which_targets_are_ready(fleet, ops):
    await fleet.store.write(replicas.report([replica("iad-1")], []))
    ready, waiting = Move("chat", MODEL.name, "iad-1"), Move("code", "acme/other@1", "iad-1")
    order = NodeOrder(OrderKind.RETIRE, "operator/ana", "", 1, Phase.MOVING, (ready, waiting))
    await fleet.store.write(node_orders.put(NODE, order), AuditNote("x", "y", "z"))
    status = {one.record.node_id: one for one in await ops.nodes.list_all(actor())}[NODE]
    assert status.order == order
    assert status.ready_moves == {ready}
    assert status.live == CONNECTED
    assert set(status.current) == set(ResourceType)
