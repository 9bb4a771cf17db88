"""Wants of a plan, and what is said of those that can not be followed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.core.plan_input import PlanRules, Rule
from coordinator.core.plan_work import PlanWork, Version, key_of
from protos.domain.resources import Adapter
from tests.support.fleets import deployment
from tests.support.plans import BIG, FAR, MODELS, SMALL, host, planned

NODES = {"gru-1": host()}
THEIRS = replace(MODELS[SMALL], name="globex/own@1", account_id="globex")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (deployment(model="acme/gone@1"), "its model is not in the registry"),
        (deployment(model=SMALL, adapter="acme/gone@1"), "its adapter is not in the registry"),
        (replace(deployment(model=SMALL), runtime="a/r@1"), "its runtime is not in the registry"),
        (deployment(model=THEIRS.name), "its model or adapter belongs to another account"),
    ],
)
def test_a_want_that_can_not_be_followed_says_why(asked, says):
    models = MODELS | {THEIRS.name: THEIRS}
    work = PlanWork(planned(NODES, models=models, deployments={"small": asked}))
    assert [one.reason for one in work.all_unplaced()] == [says]
    assert work.wants == []


def test_versions_of_a_deployment_are_wants_of_their_own():
    present = deployment(model=SMALL)
    fleet = planned(
        NODES,
        deployments={"small": present},
        preparing={"small": replace(present, model=BIG)},
        leaving={"small": replace(present, model=FAR)},
        adapters={"acme/fr@1": Adapter("acme/fr@1", SMALL, 8, 1, b"")},
    )
    work = PlanWork(fleet)
    assert [(one.version, one.model.name) for one in work.wants] == [
        (Version.PRESENT, SMALL),
        (Version.NEXT, BIG),
        (Version.LAST, FAR),
    ]
    assert [one.model.name for one in work.free] == [SMALL, BIG], "external ones are only pinned"
    assert key_of(work.wants[0]) == SMALL


def test_prohibitions_cover_their_place_only():
    rules = PlanRules(forbids=(Rule(SMALL, pop_id="GRU"),))
    work = PlanWork(planned(NODES | {"iad-1": host("IAD")}, SMALL, rules=rules))
    (want,) = work.wants
    assert not work.may_hold(want, work.drafts["gru-1"])
    assert work.may_hold(want, work.drafts["iad-1"])


def test_each_reason_is_said_once():
    work = PlanWork(planned(NODES))
    for _ in range(3):
        work.unplaced("chat", "gru-1", "no room")
    assert len(work.all_unplaced()) == 1
