"""Transcripts of requests for what is in no engine yet, or no longer."""

from __future__ import annotations

from dataclasses import replace

from agent.core.engine_place import Work
from agent.core.request.cold import MAX_STALE
from agent.core.request.messages import BecameResident, MakeResident
from protos.domain.errors import EngineFailed
from protos.domain.fleet_view import with_changes
from protos.domain.load_term import ColdPath, ColdWay
from protos.domain.resources import Adapter, ReplicaState, Residency
from tests.support.fleets import MODEL, deployment, replica
from tests.support.request_world import (
    COLD_START,
    ONE,
    QUIET,
    TWO,
    RequestWorld,
    fleet,
    outcomes,
)

FR = "acme/fr@1"
TUNED = deployment("small", adapter=FR, ttft_budget_ms=2_000)
WAY = ColdWay(ColdPath.ADAPTER, Residency.DISK)
COLD, READY = ReplicaState.COLD, ReplicaState.READY


def world(
    nodes: dict[str, float] = ONE,
    states: dict[str, ReplicaState] | None = None,
    *,
    of=TUNED,
    budget_ms: float = 2_000.0,
    **options,
) -> RequestWorld:
    """``near`` may load the adapter; ``states`` are its rows at others."""
    rows = [
        replace(replica(name, state=state), adapter=FR, residency=Residency.DISK)
        for name, state in (states or {}).items()
    ]
    table = with_changes(fleet(nodes), (), (Adapter(FR, MODEL, 8, 1, b"a" * 32), *rows))
    made = RequestWorld(table, of=of, budget_ms=budget_ms, policy=QUIET, **options)
    made.own_engines.resident = lambda name: name == MODEL
    made.own_engines.loadable[FR] = WAY
    return made


def test_the_first_request_waits_for_the_load_before_it_takes_a_place() -> None:
    one = world()
    assert one.begin() == ["load at near"]
    assert one.state.engine_door.serving == 0
    assert one.resident("near", 800.0) == ["ask near"]
    assert one.state.engine_door.serving == 1
    assert one.token("near", 50.0) == ["head near"]
    assert one.stream_ends("near", 10.0) == ["account", "end near"]
    assert one.log.cold_start == COLD_START
    assert one.log.far is not None
    assert (one.log.far.load_ms, one.log.far.engine_ms) == (800.0, 50.0)
    assert not +one.own_engines.entered


def test_a_resident_adapter_is_asked_for_at_once() -> None:
    one = world()
    one.own_engines.there = {FR}
    assert one.begin() == ["ask near"]
    assert one.own_engines.entered == {FR: 1}
    one.token("near")
    one.stream_ends("near")
    assert not +one.own_engines.entered
    assert one.log.cold_start is None


def test_a_long_load_is_no_failure_and_is_waited_for_while_none_other_is_sooner() -> None:
    one = world()
    one.begin()
    assert one.wait(600_000.0) == []
    assert one.resident("near") == ["ask near"]
    assert one.state.live.ejections == 0
    assert not one.state.live.is_ejected("near", one.now)


def test_a_request_goes_where_it_is_served_sooner_while_one_would_have_to_load() -> None:
    assert world(TWO, {"far": READY}).begin() == ["ask far"]
    slow = {"near": 20.0, "far": 1_500.0}
    assert world(slow, {"far": READY}, budget_ms=1_000.0).begin() == ["load at near"]


def test_while_a_load_takes_too_long_another_target_is_asked() -> None:
    slow = {"near": 20.0, "far": 1_500.0}
    one = world(slow, {"far": READY}, budget_ms=1_000.0)
    assert one.begin() == ["load at near"]
    assert one.wait(20_000.0)[:2] == ["cancel near", "ask far"]
    assert one.resident("near") == [], "the load went on without it"
    assert one.state.live.ejections == 0


def test_a_strict_deployment_refuses_a_load_that_is_predicted_late() -> None:
    one = world(of=replace(TUNED, strict=True), budget_ms=200.0)
    assert one.begin() == ["error 429 BudgetUnreachable"]
    assert world(of=replace(TUNED, strict=True)).begin() == ["load at near"]


def test_a_load_that_fails_lets_another_target_serve() -> None:
    one = world({"near": 20.0, "far": 1_900.0}, {"far": READY})
    assert one.begin() == ["load at near"]
    assert one.not_loaded("near", EngineFailed("rank 512")) == ["ask far"]
    assert outcomes(one) == [("near", "not_sent")]
    assert not one.state.live.is_ejected("near", one.now)


def test_a_load_that_fails_everywhere_is_said_to_the_client() -> None:
    one = world()
    one.begin()
    assert one.not_loaded("near", EngineFailed("rank 512")) == ["error 503 NoReplica"]
    assert "rank 512" in one.log.error


def test_a_client_that_leaves_ends_its_wait_alone() -> None:
    one = world()
    one.begin()
    assert one.gone(10.0) == ["cancel near", "account"]
    assert one.state.engine_door.serving == 0
    assert one.resident("near") == []


def test_what_was_in_the_engine_already_waits_for_no_load() -> None:
    one = world()
    one.begin()
    assert one.resident("near", 1.0, None) == ["ask near"]
    one.token("near")
    one.stream_ends("near")
    assert one.log.cold_start is None


def test_a_load_after_which_the_engine_is_full_waits_for_a_place() -> None:
    one = world()
    one.begin()
    for _ in range(9):
        one.state.engine_door.enter(Work("acme"), one.now)
    assert one.resident("near") == ["hold near"]


def test_what_left_the_engine_before_it_was_asked_is_loaded_again() -> None:
    one = world()
    one.begin()
    one.own_engines.there = set()
    attempt = one.attempts["near"]
    one.own_engines.resident = lambda _name: False
    again = one.machine.handle(BecameResident(attempt, COLD_START), one.now)
    assert [type(command) for command in again] == [MakeResident]
    assert outcomes(one) == [("near", "stale")]


def test_a_peer_that_no_longer_holds_it_is_placed_again_and_not_blamed() -> None:
    one = world({"far": 20.0}, {"far": READY}, node_id="elsewhere")
    one.state.live.reported("far", one.now, in_flight=0, queued=0, ready_models=[MODEL, FR])
    assert one.begin() == ["ask far"]
    assert one.attempts["far"].placement.chosen.cold is None
    assert one.stale("far", WAY) == ["ask far"]
    cold = one.attempts["far"].placement.chosen.cold
    assert cold is not None
    assert cold.way == WAY
    assert outcomes(one) == [("far", "stale")]
    assert one.state.live.ejections == 0
    one.loaded_there("far", 700.0)
    one.token("far", 900.0)
    one.stream_ends("far")
    assert one.log.cold_start == COLD_START
    assert one.state.live.targets(["far"], one.now, lambda _: True, {})["far"].ready_models == {
        MODEL,
        FR,
    }


def test_a_request_does_not_go_back_for_ever() -> None:
    one = world({"far": 20.0}, {"far": READY}, node_id="elsewhere")
    assert one.begin() == ["ask far"]
    assert one.stale("far") == ["ask far"]
    assert one.stale("far") == ["ask far"]
    assert one.stale("far") == ["error 503 NoReplica"]
    assert MAX_STALE > 3


def test_a_cold_start_at_a_peer_is_learned_once_and_says_nothing_of_its_speed() -> None:
    one = world({"far": 20.0}, {"far": COLD}, node_id="elsewhere")
    one.begin()
    before = one.state.loads.expect("far", COLD_START.way, 1).p50_ms
    one.loaded_there("far", 700.0, began=False)
    assert one.state.loads.expect("far", COLD_START.way, 1).p50_ms == before
    one.loaded_there("far", 700.0, began=True, after_ms=1_000.0)
    assert one.state.loads.expect("far", COLD_START.way, 1_000_000).p50_ms == 1_000.0
    one.token("far", 1_200.0)
    one.stream_ends("far")
    assert one.state.predictor.of_model(MODEL) == {}


def test_a_node_that_was_not_asked_to_load_excuses_no_slow_answer_by_a_load() -> None:
    one = world({"far": 20.0}, {"far": READY}, node_id="elsewhere")
    one.state.live.reported("far", one.now, in_flight=0, queued=0, ready_models=[MODEL, FR])
    assert one.begin() == ["ask far"]
    one.loaded_there("far", 700.0, after_ms=700.0)
    one.token("far", 20.0)
    one.stream_ends("far")
    assert one.log.cold_start is None
    assert one.state.predictor.of_model(MODEL)["far"].observations == 1
    assert len(one.state.loads) == 0


def test_a_node_that_calls_its_loads_short_or_tiny_is_not_believed() -> None:
    one = world({"far": 20.0}, {"far": COLD}, node_id="elsewhere")
    one.begin()
    lie = replace(COLD_START, took_ms=0.1, pull_ms=0.0, weights_bytes=0)
    one.loaded_there("far", 0.1, after_ms=30_000.0, cold_start=lie)
    assert one.state.loads.expect("far", lie.way, 1).p50_ms > 29_000.0
    assert one.state.loads.expect("elsewhere", lie.way, 1).p99_ms < 31_000.0


def test_an_update_of_the_deployment_sends_what_comes_next_to_what_it_names_now() -> None:
    one = world({"far": 20.0}, {"far": READY}, node_id="elsewhere")
    one.begin()
    other = replace(replica("far"), model="acme/new@1")
    updated = replace(TUNED, model="acme/new@1", adapter="")
    known = replace(one.table.models[replica("far").model], name="acme/new@1")
    one.table = with_changes(one.table, (), (other, updated, known))
    assert one.stale("far") == ["ask far"]
    asked = one.attempts["far"].deployment
    assert (asked.model, asked.adapter) == ("acme/new@1", "")


def test_an_adapter_that_no_node_has_is_a_clear_error() -> None:
    one = world()
    one.own_engines.loadable.clear()
    assert one.begin() == ["error 503 NoReplica"]
    assert "without the adapter" in one.log.error
    assert FR in one.log.error
