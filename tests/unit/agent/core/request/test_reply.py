"""What the client of a request gets: one head, heartbeats, one end."""

from __future__ import annotations

import pytest

from agent.core.request.messages import Rest
from agent.core.request.timing import RequestPolicy
from protos.domain.errors import NoReplica
from tests.support.request_world import (
    MINUTE_MS,
    ONE,
    QUIET,
    TWO,
    USAGE,
    RequestWorld,
    fleet,
    outcomes,
)


def test_a_whole_answer_is_accounted_before_the_client_has_it():
    world = RequestWorld(fleet(TWO), stream=False)
    assert world.begin() == ["ask near"]
    assert world.whole("near", after_ms=300.0) == ["account", "respond near"]
    assert world.log.ttft_ms is None


def test_a_clients_own_mistake_is_passed_on_and_costs_the_engine_nothing():
    world = RequestWorld(fleet(TWO))
    world.begin()
    assert world.whole("near", 400) == ["account", "respond near"]
    assert world.log.status == 400
    assert not world.state.live.is_ejected("near", world.now)


def test_no_command_is_returned_after_the_end():
    world = RequestWorld(fleet(TWO))
    world.begin()
    world.token("near")
    world.stream_ends("near")
    assert world.gone() == []
    assert world.wait(MINUTE_MS) == []
    assert world.lost("near") == []


def test_the_wait_ends_at_its_limit_of_hours():
    policy = RequestPolicy(heartbeat_ms=0.0, max_wait_ms=2 * 3_600_000.0)
    world = RequestWorld(fleet(ONE), policy=policy)
    world.begin()
    assert world.wait(7_000_000.0) == []
    assert world.wait(400_000.0) == ["cancel near", "account", "error 504 DeadlineExceeded"]


def test_a_silent_stream_gets_a_head_and_heartbeats_and_stays_replaceable():
    """Seen: not one byte before the first token for 40 s, so that proxies cut the stream."""
    world = RequestWorld(fleet(ONE))
    world.begin()
    assert world.wait(4_900.0) == []
    assert world.wait(200.0) == ["heartbeat"]
    assert world.wait(5_000.0) == ["heartbeat"]
    world.table = fleet(TWO)
    assert world.lost("near") == ["ask far"]
    assert world.token("far", 10.0) == ["head far"]
    assert world.stream_ends("far") == ["account", "end far"]


def test_after_a_heartbeat_what_fails_is_an_error_event():
    world = RequestWorld(fleet(ONE))
    world.begin()
    assert world.wait(5_100.0) == ["heartbeat"]
    assert world.lost("near") == ["error event 503 NoReplica"]


@pytest.mark.parametrize("status", [400, 500])
def test_after_a_heartbeat_an_engines_own_error_is_an_event_too(status: int):
    world = RequestWorld(fleet(ONE))
    world.begin()
    world.wait(5_100.0)
    assert world.whole("near", status)[-1] == "error event 502 EngineFailed"


def test_heartbeats_go_on_in_a_pause_between_two_tokens_and_not_beside_tokens():
    world = RequestWorld(fleet(ONE))
    world.begin()
    world.token("near", 20.0)
    for _ in range(10):
        assert world.wait(1_000.0) == []
        world.read("near")
    assert world.wait(5_100.0) == ["heartbeat"]
    assert world.wait(5_000.0) == ["heartbeat"]


def test_a_request_without_a_stream_gets_no_heartbeat():
    world = RequestWorld(fleet(ONE), stream=False)
    world.begin()
    assert world.wait(MINUTE_MS) == []


def test_heartbeats_can_be_switched_off():
    world = RequestWorld(fleet(ONE), policy=QUIET)
    world.begin()
    assert world.wait(MINUTE_MS) == []


def test_a_broken_stream_ends_in_an_error_event_and_is_billed():
    world = RequestWorld(fleet(TWO))
    world.begin()
    world.token("near")
    said = world.lost("near", 100.0, status=200, reason="connection reset")
    assert said == ["account", "error event 502 EngineFailed"]
    assert world.log.broken
    assert world.log.usage == USAGE
    assert world.log.error == "connection reset"


def test_an_engine_lost_after_its_last_token_needs_no_continuation():
    world = RequestWorld(fleet(TWO))
    world.begin()
    world.token("near")
    assert world.lost("near", status=200, rest=Rest.END) == ["account", "end near"]
    assert world.log.error == ""


def test_a_client_gone_before_the_first_token_cuts_the_engine():
    world = RequestWorld(fleet(TWO))
    world.begin()
    assert world.gone(10.0) == ["cancel near", "account"]
    assert world.state.live.in_flight("near") == 0
    assert outcomes(world) == [("near", "client_gone")]


def test_a_client_gone_mid_stream_is_billed_for_the_generated_tokens():
    world = RequestWorld(fleet(TWO))
    world.begin()
    world.token("near")
    assert world.gone(500.0) == ["cancel near", "account"]
    assert world.log.usage == USAGE
    assert world.log.node_id == "near"


@pytest.mark.parametrize("begun", [False, True])
def test_a_request_that_a_stop_cuts_ends_with_an_error_and_what_it_cost(begun: bool) -> None:
    world = RequestWorld(fleet(TWO))
    world.begin()
    error = NoReplica("this site stops")
    if begun:
        world.token("near")
        said = world.cut_short(error, 500.0)
        assert said == ["cancel near", "account", "error event 503 NoReplica"]
        assert world.log.usage == USAGE
        assert world.log.broken
    else:
        assert world.cut_short(error, 500.0) == ["cancel near", "account", "error 503 NoReplica"]
    assert world.log.error
    assert world.state.live.in_flight("near") == 0
    assert not world.state.live.is_ejected("near", world.now), "the target is not to blame"
    assert world.cut_short(error) == []


def test_a_fault_of_whoever_drives_it_leaves_nothing_counted() -> None:
    world = RequestWorld(fleet(TWO))
    world.begin()
    assert world.abandon() == ["cancel near"]
    assert world.state.live.in_flight("near") == 0
    assert world.state.engine_door.serving == 0
    assert world.machine.over
