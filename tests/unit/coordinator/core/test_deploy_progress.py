"""What a deploy waits for, in words."""

from __future__ import annotations

import pytest

from coordinator.core.deploy_progress import MAX_LINES, NodeProgress, waits_for
from protos.domain.resources import Hold, ReplicaState, Residency

WHY = "the plan has no node for it"


def at(node_id="gru-1", hold=Hold.HOT, state=None, **fields):
    return NodeProgress(node_id, "acme/m@1", hold, **({"connected": True, "state": state} | fields))


@pytest.mark.parametrize(
    ("node", "line"),
    [
        (at(), "waiting for node gru-1 to begin with acme/m@1"),
        (at(connected=False), "waiting for node gru-1: it is not connected"),
        (at(alive=False), "waiting for node gru-1: it is not connected"),
        (at(state=ReplicaState.PULLING), "pulling acme/m@1 at gru-1"),
        (
            at(state=ReplicaState.PULLING, pulled_bytes=120_000_000, total_bytes=269_000_000),
            "pulling 120 of 269 MB at gru-1",
        ),
        (
            at(state=ReplicaState.PULLING, pulled_bytes=3 * 10**9, total_bytes=16 * 10**9),
            "pulling 3 of 16 GB at gru-1",
        ),
        (
            at(state=ReplicaState.PULLING, pulled_bytes=1_000, total_bytes=9_000),
            "pulling 1 of 9 kB at gru-1",
        ),
        (at(state=ReplicaState.STARTING), "starting engine at gru-1"),
        (at(state=ReplicaState.STARTING, is_adapter=True), "loading adapter acme/m@1 at gru-1"),
        (at(state=ReplicaState.STOPPING), "draining the engine at gru-1"),
        (at(state=ReplicaState.FAILED, error="oom"), "failed at gru-1: oom"),
        (at(state=ReplicaState.COLD, residency=Residency.DISK), "loading acme/m@1 at gru-1"),
        (
            at(state=ReplicaState.COLD, residency=Residency.ORIGIN),
            "waiting for node gru-1 to pull acme/m@1",
        ),
        (
            at(hold=Hold.DISK, state=ReplicaState.COLD, residency=Residency.PEER),
            "waiting for node gru-1 to pull acme/m@1",
        ),
        (
            at(state=ReplicaState.PULLING, error="disk is full"),
            "pulling acme/m@1 at gru-1: disk is full",
        ),
        (at(state=ReplicaState.STARTING, error="oom"), "starting engine at gru-1: oom"),
        (
            at(state=ReplicaState.COLD, residency=Residency.DISK, error="no slot is free"),
            "loading acme/m@1 at gru-1: no slot is free",
        ),
    ],
)
def test_each_state_has_its_words(node, line):
    assert waits_for([node], WHY) == [line]


def test_nothing_is_waited_for_once_all_is_as_planned():
    disk = at("iad-1", Hold.DISK, ReplicaState.COLD, residency=Residency.DISK)
    assert waits_for([at(state=ReplicaState.READY), disk], WHY) == []


def test_without_a_node_the_plans_reason_is_said():
    assert waits_for([], WHY) == [WHY]


def test_a_node_that_may_load_it_is_enough_where_none_is_to_hold_it():
    assert waits_for([at(hold=Hold.ON_DEMAND, state=ReplicaState.COLD)], WHY) == []
    assert waits_for([at(hold=Hold.ON_DEMAND)], WHY) != []


def test_many_nodes_are_a_bounded_number_of_lines():
    lines = waits_for([at(f"n-{number}") for number in range(500)], WHY)
    assert len(lines) == MAX_LINES + 1
    assert lines[-1] == f"and {500 - MAX_LINES} more"


@pytest.mark.parametrize(
    ("hold", "state", "residency", "serves", "is_done"),
    [
        (Hold.HOT, ReplicaState.READY, Residency.DEVICE, True, True),
        # Being brought in, wherever its weights are.
        (Hold.HOT, ReplicaState.COLD, Residency.DISK, False, False),
        (Hold.HOT, ReplicaState.COLD, Residency.ORIGIN, False, False),
        # Ready on demand.
        (Hold.DISK, ReplicaState.COLD, Residency.DISK, True, True),
        (Hold.ON_DEMAND, ReplicaState.COLD, Residency.DISK, True, True),
        (Hold.ON_DEMAND, ReplicaState.COLD, Residency.ORIGIN, True, False),
        (Hold.DISK, ReplicaState.PULLING, Residency.PEER, False, False),
    ],
)
def test_cold_is_ready_on_demand_but_not_where_it_is_to_be_hot(
    hold, state, residency, serves, is_done
):
    one = at(hold=hold, state=state, residency=residency)
    assert (one.serves, one.is_done) == (serves, is_done)
