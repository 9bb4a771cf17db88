"""What a node reports of what it holds, or may load."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.engine_status import EngineState
from agent.core.reconcile import HeldReplica
from agent.core.replica_report import Facts, InEngine, report_one
from protos.domain.resources import (
    DesiredAdapter,
    DesiredReplica,
    Hold,
    ModelSource,
    ReplicaState,
    Residency,
)

MODEL = DesiredReplica("a/m@1", ModelSource.MANAGED, (), 2_048)
ADAPTER = DesiredAdapter("a/fr@1", "a/m@1", 8, ())


def facts(residency: Residency = Residency.DISK, **changed: object) -> Facts:
    empty = Facts({}, lambda _one: residency, {}, frozenset(), frozenset())
    return replace(empty, **changed)


@pytest.mark.parametrize(
    ("hold", "residency", "state"),
    [
        (Hold.HOT, Residency.ORIGIN, ReplicaState.PULLING),
        (Hold.HOT, Residency.DISK, ReplicaState.COLD),
        (Hold.DISK, Residency.ORIGIN, ReplicaState.PULLING),
        (Hold.DISK, Residency.DISK, ReplicaState.COLD),
        (Hold.ON_DEMAND, Residency.PEER, ReplicaState.COLD),
        (Hold.ON_DEMAND, Residency.DISK, ReplicaState.COLD),
    ],
)
def test_what_is_in_no_engine_is_on_its_way_or_cold(hold, residency, state):
    line = report_one(replace(MODEL, hold=hold), facts(residency))
    assert (line.state, line.residency, line.error) == (state, residency, "")


def test_an_engine_says_its_own_state():
    there = InEngine(EngineState.BACKOFF, 3, "killed by signal 9")
    line = report_one(MODEL, facts(in_engine={"a/m@1": there}))
    assert line == HeldReplica("a/m@1", ReplicaState.STARTING, 3, "killed by signal 9")


def test_an_adapter_is_reported_beside_its_base():
    there = InEngine(EngineState.READY, 3, "")
    line = report_one(ADAPTER, facts(in_engine={"a/fr@1": there}))
    assert line == HeldReplica("a/m@1", ReplicaState.READY, 3, "", "a/fr@1")


def test_what_is_refused_for_good_has_failed():
    line = report_one(ADAPTER, facts(errors={"a/fr@1": "no effect"}, refused=frozenset({"a/fr@1"})))
    assert (line.state, line.error) == (ReplicaState.FAILED, "no effect")


def test_a_hot_model_that_could_not_be_loaded_has_failed_until_it_is_tried_again():
    errors = {"a/m@1": "does not fit"}
    assert report_one(MODEL, facts(errors=errors)).state is ReplicaState.FAILED
    again = facts(errors=errors, loading=frozenset({"a/m@1"}))
    assert report_one(MODEL, again).state is ReplicaState.STARTING
