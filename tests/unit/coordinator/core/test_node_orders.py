"""Intents from orders, faults and reports; the steps of a retirement."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.core.node_orders import (
    BY_HEALTH,
    SETTLE_MS,
    Move,
    NodeCondition,
    NodeFault,
    NodeOrder,
    OrderKind,
    Phase,
    intent_of,
    order_after_faults,
    retirement_after,
)
from protos.domain.resources import NodeIntent

CORDON = NodeOrder(OrderKind.CORDON, "operator/ana", "", 1)
DRAIN = NodeOrder(OrderKind.DRAIN, "operator/ana", "new fans", 1)
RETIRE = NodeOrder(OrderKind.RETIRE, "operator/ana", "", 1_000, Phase.MOVING)
FINE = NodeCondition()
DRAINING = NodeCondition(draining=True, draining_reason="drained by this host's operator")
LOST = NodeFault("GPU 0 is lost", fatal=True, latched=True)
BLIND = NodeFault("accelerators cannot be read", fatal=True, latched=False)
HOT = NodeFault("GPU 0 runs slower", fatal=False, latched=False)


@pytest.mark.parametrize(
    ("order", "condition", "present", "intent", "reason"),
    [
        (None, FINE, NodeIntent.ACTIVE, NodeIntent.ACTIVE, ""),
        (None, FINE, NodeIntent.DRAINING, NodeIntent.ACTIVE, ""),
        (None, DRAINING, NodeIntent.ACTIVE, NodeIntent.DRAINING, DRAINING.draining_reason),
        (None, None, NodeIntent.DRAINING, NodeIntent.DRAINING, "it drained itself"),
        (None, None, NodeIntent.CORDONED, NodeIntent.ACTIVE, ""),
        (CORDON, FINE, NodeIntent.ACTIVE, NodeIntent.CORDONED, "cordoned by ana"),
        (CORDON, DRAINING, NodeIntent.CORDONED, NodeIntent.DRAINING, DRAINING.draining_reason),
        (DRAIN, FINE, NodeIntent.ACTIVE, NodeIntent.DRAINING, "drained by ana: new fans"),
        (DRAIN, None, NodeIntent.ACTIVE, NodeIntent.DRAINING, "drained by ana: new fans"),
        (RETIRE, FINE, NodeIntent.ACTIVE, NodeIntent.CORDONED, "retiring"),
        (RETIRE, DRAINING, NodeIntent.ACTIVE, NodeIntent.DRAINING, DRAINING.draining_reason),
        (
            replace(RETIRE, phase=Phase.DRAINING),
            FINE,
            NodeIntent.CORDONED,
            NodeIntent.DRAINING,
            "retiring: it drains",
        ),
        (
            replace(RETIRE, phase=Phase.RETIRED),
            DRAINING,
            NodeIntent.DRAINING,
            NodeIntent.RETIRED,
            "retired",
        ),
    ],
)
def test_an_intent_follows_from_the_order_and_the_nodes_report(
    order, condition, present, intent, reason
):
    found, why = intent_of(order, condition, present)
    assert found is intent
    assert why.startswith(reason)
    assert bool(why) == bool(reason)


def test_a_fatal_hardware_fault_becomes_an_order_that_outlives_its_report():
    order = order_after_faults(None, [HOT, LOST], 7)
    assert order == NodeOrder(OrderKind.DRAIN, BY_HEALTH, "GPU 0 is lost", 7)
    assert order_after_faults(order, [], 8) is order
    assert intent_of(order, FINE, NodeIntent.ACTIVE) == (NodeIntent.DRAINING, "GPU 0 is lost")


def test_a_fault_that_is_not_latched_or_a_warning_becomes_no_order():
    assert order_after_faults(None, [BLIND, HOT], 7) is None


def test_a_fault_replaces_a_cordon_but_not_a_drain_or_a_retirement():
    after = order_after_faults(CORDON, [LOST], 7)
    assert after is not None
    assert after.by == BY_HEALTH
    for order in (DRAIN, RETIRE):
        assert order_after_faults(order, [LOST], 7) is order


MOVE = Move("small", "acme/small@1", "gru-2")


def step(order: NodeOrder, **changes) -> NodeOrder:
    facts = {"all_ready": False, "engine_in_flight": 0, "dead": False, "now_unix_ms": 9_000}
    return retirement_after(order, (MOVE,), **(facts | changes))


def test_a_retirement_moves_then_drains_then_retires():
    moving = step(RETIRE)
    assert (moving.phase, moving.moves) == (Phase.MOVING, (MOVE,))
    draining = step(moving, all_ready=True)
    assert (draining.phase, draining.at_unix_ms) == (Phase.DRAINING, 9_000)
    settled = 9_000 + int(SETTLE_MS)
    assert step(draining, now_unix_ms=settled - 1) is draining
    assert step(draining, now_unix_ms=settled, engine_in_flight=2) is draining
    assert step(draining, now_unix_ms=settled, engine_in_flight=None) is draining
    assert step(draining, now_unix_ms=settled).phase is Phase.RETIRED


def test_a_dead_node_retires_without_draining_and_a_forced_one_without_its_moves():
    assert step(replace(RETIRE, phase=Phase.DRAINING), dead=True).phase is Phase.RETIRED
    assert step(replace(RETIRE, force=True)).phase is Phase.DRAINING
