"""A change switches when the next version is ready on enough nodes, and lets go after a grace."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.core.rollout import (
    GRACE_MS,
    NodeReadiness,
    Observed,
    Release,
    Rollout,
    RolloutPhase,
    Switch,
    Ticked,
    changes_weights,
    handle,
    is_enough,
)
from protos.domain.resources import Hold, ReplicaState, Residency
from tests.support.fleets import deployment

PREPARING = Rollout(RolloutPhase.PREPARING, deployment(), "operator/ana", "update", 1_000)


def at(hold=Hold.HOT, state=None, residency=Residency.ORIGIN, *, alive=True):
    return NodeReadiness("gru-1", alive, hold, state, residency)


READY = at(state=ReplicaState.READY, residency=Residency.DEVICE)
STARTING = at(state=ReplicaState.STARTING)
ON_DISK = at(Hold.DISK, ReplicaState.COLD, Residency.DISK)
FAR = at(Hold.DISK, ReplicaState.COLD, Residency.ORIGIN)
PULLING = at(Hold.DISK, ReplicaState.PULLING)


@pytest.mark.parametrize(
    ("nodes", "enough"),
    [
        ([], False),
        ([READY], True),
        ([STARTING], False),
        ([READY, STARTING], True),
        ([READY, STARTING, STARTING], False),
        ([ON_DISK], True),
        ([FAR], False),
        ([PULLING], False),
        ([ON_DISK, STARTING], False),
        ([replace(READY, alive=False)], False),
        ([READY, replace(STARTING, alive=False), replace(STARTING, alive=False)], True),
        ([at(Hold.ON_DEMAND, ReplicaState.COLD, Residency.DISK)], True),
        ([at(Hold.ON_DEMAND, ReplicaState.COLD, Residency.PEER)], False),
        ([at(Hold.HOT, ReplicaState.COLD, Residency.DISK)], False),
        ([at(Hold.HOT, ReplicaState.FAILED)], False),
    ],
)
def test_half_of_the_living_nodes_are_enough_and_one_must_serve_if_any_is_to(nodes, enough):
    assert is_enough(nodes) is enough
    assert handle(PREPARING, Observed(nodes), 2_000) == ([Switch()] if enough else [])


def test_time_alone_switches_nothing():
    assert handle(PREPARING, Ticked(), 10**12) == []


def test_the_version_before_goes_after_the_grace():
    settling = replace(PREPARING, phase=RolloutPhase.SETTLING)
    assert handle(settling, Ticked(), 1_000 + int(GRACE_MS) - 1) == []
    assert handle(settling, Ticked(), 1_000 + int(GRACE_MS)) == [Release()]


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ({"model": "acme/m@2"}, True),
        ({"adapter": "acme/a@1"}, True),
        ({"runtime": "acme/r@1"}, True),
        ({"ttft_budget_ms": 9}, False),
        ({"residency_zones": ("EU",)}, False),
        ({"revision": 9}, False),
    ],
)
def test_other_weights_must_be_made_ready_first(field, changes):
    assert changes_weights(deployment(), replace(deployment(), **field)) is changes
