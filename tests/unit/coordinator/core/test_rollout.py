"""A change switches when the next version is ready, and lets go once all follow it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.core.rollout import (
    FOLLOWED_GRACE_MS,
    GRACE_MS,
    Followed,
    NodeReadiness,
    Observed,
    Release,
    Rollout,
    RolloutPhase,
    Switch,
    Withdraw,
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


def test_a_change_that_is_not_ready_in_time_is_withdrawn_and_not_switched_to():
    brief = replace(PREPARING, timeout_ms=5_000)
    assert handle(brief, Observed([STARTING]), 5_999) == []
    assert handle(brief, Observed([STARTING]), 6_000) == [Withdraw()]
    assert handle(brief, Observed([]), 10**12) == [Withdraw()]


def test_what_is_ready_at_the_last_moment_is_switched_to():
    assert handle(PREPARING, Observed([READY]), 10**12) == [Switch()]


SETTLING = replace(PREPARING, phase=RolloutPhase.SETTLING, timeout_ms=1_000)


def test_the_version_before_goes_after_the_grace_whoever_does_not_follow():
    assert handle(SETTLING, Followed(None), 1_000 + int(GRACE_MS) - 1) == []
    assert handle(SETTLING, Followed(None), 1_000 + int(GRACE_MS)) == [Release()]


def test_the_version_before_goes_shortly_after_every_agent_follows():
    followed = Followed(4_000)
    assert handle(SETTLING, followed, 4_000 + int(FOLLOWED_GRACE_MS) - 1) == []
    assert handle(SETTLING, followed, 4_000 + int(FOLLOWED_GRACE_MS)) == [Release()]


def test_who_follows_late_does_not_prolong_the_grace():
    late = Followed(1_000 + int(GRACE_MS) - 1)
    assert handle(SETTLING, late, 1_000 + int(GRACE_MS)) == [Release()]


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
