"""Transcripts of one request: given these events, these commands."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.exploration import SEARCH_EVERY_MS
from agent.core.peer_load import PeerLoad
from agent.core.request.messages import Rest
from agent.core.request.timing import LOOK_AGAIN_MS, RequestPolicy
from protos.domain.errors import NoReplica
from protos.domain.pricing import Usage
from protos.domain.resources import NodeIntent, SlaTier, Tier
from protos.domain.trace import AttemptOutcome, AttemptPurpose
from tests.support.fleets import deployment, node, pop, price, replica, view
from tests.support.request_world import USAGE, RequestWorld, fleet

TWO = {"near": 20.0, "far": 60.0}
THREE = {"near": 20.0, "far": 60.0, "last": 90.0}
ONE = {"near": 20.0}
QUIET = RequestPolicy(heartbeat_ms=0.0)
MINUTE_MS = 60_000.0


def outcomes(world: RequestWorld) -> list[tuple[str, str]]:
    return [(one.node_id, str(one.outcome)) for one in world.log.attempts]


# -- an answer


def test_a_stream_is_asked_for_headed_with_its_first_token_accounted_and_ended():
    world = RequestWorld(fleet(TWO))
    assert world.begin() == ["ask near"]
    assert world.token("near", 30.0) == ["head near"]
    assert world.stream_ends("near", 200.0) == ["account", "end near"]
    assert outcomes(world) == [("near", "answered")]
    log = world.log
    assert (log.ttft_ms, log.status, log.usage, log.answered) == (30.0, 200, USAGE, True)
    assert log.cost.total_nano_usd == 10 * 10 + 20 * 10


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


def test_an_attempt_counts_as_load_until_it_ends():
    world = RequestWorld(fleet(TWO))
    world.begin()
    assert world.state.live.in_flight("near") == 1
    assert world.state.engine_queue.serving == 1
    world.token("near")
    world.stream_ends("near")
    assert world.state.live.in_flight("near") == 0
    assert world.state.engine_queue.serving == 0


def test_a_peers_load_is_taken_with_its_first_token():
    world = RequestWorld(fleet({"far": 60.0}))
    world.begin()
    world.token("far", 40.0, PeerLoad(7, 3, 0.5))
    known = world.state.live.targets(("far",), world.now, lambda _: True, {})["far"]
    assert (known.in_flight, known.queued) == (7, 3)


# -- failures before the first byte


@pytest.mark.parametrize("status", [409, 503])
def test_a_target_that_refuses_is_replaced(status: int):
    world = RequestWorld(fleet(TWO))
    world.begin()
    assert world.whole("near", status) == ["ask far"]
    assert world.token("far", 50.0) == ["head far"]
    assert world.log.replaced == 1
    assert outcomes(world) == [("near", "refused")]


def test_an_unreachable_target_is_replaced_and_its_failure_counted():
    world = RequestWorld(fleet(TWO))
    for _ in range(3):
        world.begin()
        assert world.lost("near") == ["ask far"]
        world.token("far", 50.0)
        world.stream_ends("far")
    assert world.state.live.is_ejected("near", world.now)
    assert world.begin() == ["ask far"]


def test_an_engine_that_fails_counts_against_it_once_another_has_answered():
    world = RequestWorld(fleet(TWO))
    for _ in range(3):
        world.begin()
        assert world.whole("near", 500) == ["ask far"]
        world.token("far", 50.0)
        world.stream_ends("far")
    assert world.state.live.is_ejected("near", world.now)


def test_a_request_that_makes_every_engine_fail_ejects_none_and_gets_the_engines_500():
    world = RequestWorld(fleet(TWO))
    for _ in range(5):
        assert world.begin() == ["ask near"]
        assert world.whole("near", 500) == ["ask far"]
        assert world.whole("far", 500) == ["respond far"]
        assert world.log.status == 500
        assert world.log.error.startswith("every engine that was asked failed")
    assert not world.state.live.is_ejected("near", world.now)


def test_a_target_that_is_gone_when_it_is_to_be_asked_is_passed_over():
    world = RequestWorld(fleet(TWO))
    world.begin()
    assert world.not_sent("near") == ["ask far"]
    assert world.state.live.in_flight("near") == 0
    assert outcomes(world) == [("near", "not_sent")]


def test_targets_are_asked_up_to_the_limit_and_then_the_client_gets_an_error():
    world = RequestWorld(fleet(THREE), policy=RequestPolicy(max_attempts=2))
    assert world.begin() == ["ask near"]
    assert world.lost("near") == ["ask far"]
    assert world.lost("far") == ["error 503 NoReplica"]
    assert world.log.shed == "no_replica"


def test_without_a_target_left_the_client_gets_the_reason():
    world = RequestWorld(fleet(ONE))
    world.begin()
    assert world.lost("near", reason="connection refused") == ["error 503 NoReplica"]
    assert "connection refused" in world.log.error


def test_a_strict_deployment_without_a_target_in_time_is_429():
    world = RequestWorld(fleet(ONE), of=deployment(strict=True), budget_ms=5.0)
    assert world.begin() == ["error 429 BudgetUnreachable"]
    assert world.log.shed == "budget_unreachable"


#: How an answer may break: what the runner reports, and whether a response head had come.
BREAKS = [
    pytest.param("connection refused", 0, id="refused"),
    pytest.param("connection closed by the other side", 0, id="half-open"),
    pytest.param("connection closed by the other side", 200, id="cut behind the head"),
    pytest.param("malformed event stream: an event without data", 200, id="malformed events"),
    pytest.param("malformed HTTP response: invalid status", 0, id="no HTTP"),
    pytest.param("response head too large", 0, id="headers of a megabyte"),
    pytest.param("response larger than 64 MiB", 200, id="a body without end"),
    pytest.param("the engine failed: out of memory", 200, id="an error of its own"),
]


@pytest.mark.parametrize(("reason", "status"), BREAKS)
def test_whatever_breaks_an_answer_before_its_first_token_another_answers(
    reason: str, status: int
) -> None:
    world = RequestWorld(fleet(TWO))
    world.begin()
    assert world.lost("near", 10.0, status=status, reason=reason) == ["ask far"]
    assert world.token("far", 50.0) == ["head far"]
    assert world.stream_ends("far") == ["account", "end far"]
    assert outcomes(world) == [("near", "failed"), ("far", "answered")]
    assert world.log.attempts[0].detail == reason
    assert world.log.usage == USAGE, "billed once"


@pytest.mark.parametrize(("reason", "status"), BREAKS[2:4])
def test_whatever_breaks_an_answer_after_its_first_token_is_an_error_event(
    reason: str, status: int
) -> None:
    world = RequestWorld(fleet(TWO))
    world.begin()
    world.token("near")
    said = world.lost("near", 10.0, status=status, reason=reason)
    assert said == ["account", "error event 502 EngineFailed"]
    assert outcomes(world) == [("near", "broken")]


def test_a_silent_target_is_replaced() -> None:
    world = RequestWorld(fleet(TWO), policy=QUIET)
    world.begin()
    assert world.wait(2_100.0) == ["cancel near", "ask far"]
    assert outcomes(world) == [("near", "late")]


def test_residency_that_leaves_no_target_is_503_and_none_is_asked() -> None:
    world = RequestWorld(fleet(TWO), of=deployment(zones=("BR",)))
    assert world.begin() == ["error 503 NoReplica"]
    assert world.log.attempts == []


# -- waiting is not failing


def test_one_engine_that_is_silent_for_minutes_is_waited_for_and_asked_once():
    """Seen: the same engine was aborted and asked again at 120 and 240 s, and 503 at 360 s."""
    world = RequestWorld(fleet(ONE), policy=QUIET)
    world.begin()
    assert world.wait(372_000.0) == []
    assert world.token("near") == ["head near"]
    assert world.stream_ends("near") == ["account", "end near"]
    assert outcomes(world) == [("near", "answered")]


def test_the_wait_ends_at_its_limit_of_hours():
    policy = RequestPolicy(heartbeat_ms=0.0, max_wait_ms=2 * 3_600_000.0)
    world = RequestWorld(fleet(ONE), policy=policy)
    world.begin()
    assert world.wait(7_000_000.0) == []
    assert world.wait(400_000.0) == ["cancel near", "error 504 DeadlineExceeded"]


def test_a_whole_answer_is_waited_for_like_a_stream():
    world = RequestWorld(fleet(TWO), stream=False)
    world.begin()
    assert world.wait(3_000_000.0) == []
    assert world.whole("near") == ["account", "respond near"]


def test_a_late_attempt_is_replaced_if_another_target_would_be_sooner():
    world = RequestWorld(fleet(TWO), policy=QUIET)
    world.learned("near", 20.0)
    world.learned("far", 60.0)
    world.begin()
    assert world.wait(400.0) == ["cancel near", "ask far"]
    assert outcomes(world) == [("near", "late")]
    assert world.token("far", 60.0) == ["head far"]


def test_a_late_attempt_is_kept_while_the_other_target_would_be_later():
    """The other target would take a minute: after two seconds it would still be later."""
    world = RequestWorld(fleet(TWO), policy=QUIET)
    world.learned("near", 20.0)
    world.learned("far", 60_000.0)
    world.begin()
    assert world.wait(30_000.0) == []
    assert world.token("near") == ["head near"]


def test_a_target_that_comes_back_while_another_is_late_is_asked_then():
    """The only other target was down when the request began; it is checked again later."""
    world = RequestWorld(fleet(ONE), policy=QUIET)
    world.learned("near", 20.0)
    world.begin()
    assert world.wait(10_000.0) == []
    world.table = fleet(TWO)
    world.learned("far", 60.0)
    assert world.wait(0.25 * 10_000.0 + LOOK_AGAIN_MS) == ["cancel near", "ask far"]


def test_the_last_attempt_is_never_cut_while_it_may_still_answer():
    world = RequestWorld(fleet(THREE), policy=replace(QUIET, max_attempts=2))
    for name in THREE:
        world.learned(name, THREE[name])
    world.begin()
    assert world.wait(1_000.0) == ["cancel near", "ask far"]
    assert world.wait(300_000.0) == []


def test_a_target_that_vanished_is_not_waited_for():
    world = RequestWorld(fleet(TWO), policy=QUIET, stream=False)
    world.begin()
    world.state.live.probe_failed("near", world.now)
    assert world.wait(QUIET.stream_idle_ms + 1.0) == ["cancel near", "ask far"]


def test_a_vanished_target_mid_stream_ends_it_with_an_error_event():
    world = RequestWorld(fleet(TWO), policy=QUIET)
    world.begin()
    world.token("near")
    world.state.live.probe_failed("near", world.now)
    said = world.wait(QUIET.stream_idle_ms + 1.0)
    assert said == ["cancel near", "account", "error event 502 EngineFailed"]


def test_a_stream_that_pauses_between_two_tokens_is_waited_for():
    world = RequestWorld(fleet(TWO), policy=QUIET)
    world.begin()
    world.token("near")
    assert world.wait(600_000.0) == []
    world.read("near")
    assert world.stream_ends("near") == ["account", "end near"]


def test_a_client_that_does_not_read_is_cut():
    world = RequestWorld(fleet(TWO))
    world.begin()
    world.token("near")
    said = world.wait(RequestPolicy().stream_idle_ms + 1.0, stalled=True)
    assert said == ["cancel near", "account", "cut client"]
    assert world.log.client_gone


def test_streams_with_empty_deltas_teach_when_the_engine_progressed_not_when_the_client_left():
    """Seen: 40 such streams moved an idle engine's P99 from 53 to 3,048 ms."""
    world = RequestWorld(fleet(ONE))
    world.learned("near", 50.0)
    for _ in range(40):
        world.begin()
        world.progress("near", 50.0)
        world.gone(2_900.0)
    world.begin()
    assert world.attempts["near"].placement.chosen.ttft_ms_p99 < 110.0


def test_streams_that_one_account_abandons_do_not_make_a_target_late_for_another():
    """Nothing came of them, so that only their client knows why it left."""
    world = RequestWorld(fleet(ONE))
    world.learned("near", 50.0)
    world.begin("other")
    before_ms = world.attempts["near"].placement.chosen.ttft_ms_p99
    world.gone()
    for _ in range(40):
        world.begin("acme")
        world.gone(2_900.0)
    world.begin("other")
    after_ms = world.attempts["near"].placement.chosen.ttft_ms_p99
    assert after_ms < 1.5 * before_ms, (before_ms, after_ms)


# -- heartbeats


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


# -- second copies


def hedging() -> RequestWorld:
    world = RequestWorld(fleet(TWO), hedge_ratio=1.0, policy=QUIET)
    world.learned("near", 20.0)
    world.learned("far", 60.0)
    return world


def test_a_late_first_token_gets_a_second_copy_and_the_first_answer_wins():
    world = hedging()
    assert world.begin() == ["ask near"]
    assert world.wait(60.0) == ["ask far (second_copy)"]
    assert world.token("far", 20.0) == ["cancel near", "head far"]
    assert world.stream_ends("far") == ["account", "end far"]
    assert outcomes(world) == [("near", "overtaken"), ("far", "answered")]
    assert world.log.hedge_won


def test_a_first_copy_that_is_sooner_after_all_wins_and_the_second_is_cut():
    world = hedging()
    world.begin()
    world.wait(60.0)
    assert world.token("near", 10.0) == ["cancel far", "head near"]
    world.stream_ends("near")
    assert not world.log.hedge_won


def test_a_failed_first_copy_leaves_the_second_running():
    world = hedging()
    world.begin()
    world.wait(60.0)
    assert world.lost("near") == []
    assert world.token("far", 10.0) == ["head far"]


def test_a_failed_second_copy_leaves_the_first_running():
    world = hedging()
    world.begin()
    world.wait(60.0)
    assert world.whole("far", 503) == []
    assert world.token("near", 10.0) == ["head near"]


def test_if_both_copies_fail_the_request_fails():
    world = hedging()
    world.begin()
    world.wait(60.0)
    assert world.lost("near") == []
    assert world.lost("far") == ["error 503 NoReplica"]


def test_the_customer_pays_the_tier_of_the_first_copy():
    tiers = {"near": Tier.CENTRAL, "far": Tier.EDGE}
    world = RequestWorld(fleet(TWO, tiers), hedge_ratio=1.0, policy=QUIET)
    world.learned("near", 20.0)
    world.learned("far", 60.0)
    world.begin()
    world.wait(60.0)
    world.token("far", 10.0)
    world.stream_ends("far")
    assert (world.log.serving_tier, world.log.billing_tier) == (Tier.EDGE, Tier.CENTRAL)


def test_with_no_other_target_in_time_there_is_no_second_copy():
    """When the first is late, what is left of 70 ms is too little for the other."""
    world = RequestWorld(fleet(TWO), hedge_ratio=1.0, policy=QUIET, budget_ms=70.0)
    world.learned("near", 20.0)
    world.learned("far", 60.0)
    world.begin()
    assert world.wait(60.0) == []


def test_a_request_without_a_stream_is_never_sent_twice():
    world = RequestWorld(fleet(TWO), hedge_ratio=1.0, policy=QUIET, stream=False)
    world.learned("near", 20.0)
    world.learned("far", 60.0)
    world.begin()
    assert world.wait(10_000.0) == []


def test_a_client_gone_while_both_copies_run_cuts_both():
    world = hedging()
    world.begin()
    world.wait(60.0)
    assert world.gone() == ["cancel near", "cancel far", "account"]


# -- exploration and trials


def test_a_slow_explored_target_is_replaced_by_the_chosen_one():
    world = RequestWorld(fleet(TWO), explore_ratio=1.0, policy=QUIET, budget_ms=300.0)
    world.learned("near", 20.0)
    world.now += SEARCH_EVERY_MS
    assert world.begin() == ["ask far (explore)"]
    said = world.wait(300.0)
    assert said == ["cancel far", "ask near"]
    assert world.log.attempts[0].purpose is AttemptPurpose.EXPLORE


def test_an_explored_answer_is_an_answer_with_a_purpose():
    """Seen: exported as an error, since "explored: answered" does not start with "answered"."""
    world = RequestWorld(fleet(TWO), explore_ratio=1.0)
    world.learned("near", 20.0)
    world.begin()
    world.token("far", 50.0)
    world.stream_ends("far")
    attempt = world.log.attempts[0]
    assert attempt.outcome is AttemptOutcome.ANSWERED
    assert not attempt.outcome.is_fault


# -- broken streams


def test_a_broken_stream_ends_in_an_error_event_and_is_billed():
    world = RequestWorld(fleet(TWO))
    world.begin()
    world.token("near")
    said = world.lost("near", 100.0, status=200, reason="connection reset")
    assert said == ["account", "error event 502 EngineFailed"]
    assert world.log.broken
    assert world.log.usage == USAGE
    assert world.log.error == "connection reset"


def test_a_broken_stream_is_continued_by_another_replica_and_billed_as_one():
    tiers = {"near": Tier.CENTRAL, "far": Tier.EDGE}
    world = RequestWorld(fleet(TWO, tiers))
    world.begin()
    world.token("near")
    assert world.lost("near", 100.0, status=200, rest=Rest.TEXT) == ["ask far (rest)"]
    assert world.stream_ends("far", 100.0, Usage(10, 0, 33)) == ["account", "end far"]
    assert outcomes(world) == [("near", "broken"), ("far", "continued")]
    log = world.log
    assert (log.billing_tier, log.node_id, log.usage.completion_tokens) == ("central", "near", 33)
    assert log.continued


def test_a_stream_that_breaks_again_is_continued_again_up_to_the_limit():
    world = RequestWorld(fleet(THREE))
    world.begin()
    world.token("near")
    assert world.lost("near", status=200, rest=Rest.TEXT) == ["ask far (rest)"]
    assert world.lost("far", status=200, rest=Rest.TEXT) == ["ask last (rest)"]
    said = world.lost("last", status=200, rest=Rest.TEXT)
    assert said == ["account", "error event 502 EngineFailed"]


def test_a_replica_that_cannot_be_asked_for_the_rest_is_passed_over():
    world = RequestWorld(fleet(THREE))
    world.begin()
    world.token("near")
    world.lost("near", status=200, rest=Rest.TEXT)
    assert world.not_sent("far", Rest.TEXT) == ["ask last (rest)"]


def test_an_engine_lost_after_its_last_token_needs_no_continuation():
    world = RequestWorld(fleet(TWO))
    world.begin()
    world.token("near")
    assert world.lost("near", status=200, rest=Rest.END) == ["account", "end near"]
    assert world.log.error == ""


def test_a_silent_stream_that_can_be_continued_elsewhere_is():
    world = RequestWorld(fleet(TWO), policy=QUIET)
    world.begin()
    world.token("near")
    said = world.wait(QUIET.stream_idle_ms + 1.0, rest=Rest.TEXT)
    assert said == ["cancel near", "ask far (rest)"]


# -- the client leaves


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
        assert world.cut_short(error, 500.0) == ["cancel near", "error 503 NoReplica"]
    assert world.log.error
    assert world.state.live.in_flight("near") == 0
    assert not world.state.live.is_ejected("near", world.now), "the target is not to blame"
    assert world.cut_short(error) == []


def test_a_fault_of_whoever_drives_it_leaves_nothing_counted() -> None:
    world = RequestWorld(fleet(TWO))
    world.begin()
    assert world.abandon() == ["cancel near"]
    assert world.state.live.in_flight("near") == 0
    assert world.state.engine_queue.serving == 0
    assert world.machine.over


# -- what a request keeps


def test_a_price_push_during_a_stream_does_not_change_its_cost():
    """Seen: the client saw one cost in the usage chunk, and the record had another."""
    world = RequestWorld(fleet(ONE))
    world.begin()
    world.token("near")
    rows = [price(Tier.CENTRAL, 999), pop("NEAR", Tier.CENTRAL), node("near", "NEAR")]
    world.table = view(*rows, replica("near", 20.0), *fleet(ONE).models.values())
    world.stream_ends("near")
    assert world.log.cost.total_nano_usd == 10 * 10 + 20 * 10


def test_a_replacement_is_placed_by_the_current_table():
    """A target that its operator drains meanwhile is not asked."""
    world = RequestWorld(fleet(THREE))
    world.begin()
    rows = [*fleet(THREE).replicas["acme/small@1"].values()]
    world.table = view(
        *fleet(THREE).pops.values(),
        *fleet(THREE).models.values(),
        *fleet(THREE).prices.values(),
        *rows,
        node("near", "NEAR"),
        node("far", "FAR", intent=NodeIntent.DRAINING),
        node("last", "LAST"),
    )
    assert world.lost("near") == ["ask last"]


def test_a_table_update_that_removes_the_target_does_not_end_its_stream():
    world = RequestWorld(fleet(TWO))
    world.begin()
    world.token("near")
    world.table = view()
    assert world.wait(1_000.0) == []
    assert world.stream_ends("near") == ["account", "end near"]


def test_a_predicted_miss_is_marked_and_billed_at_the_lower_tier():
    tiers = {"near": Tier.EDGE}
    of = deployment(sla_tier=SlaTier.STANDARD)
    world = RequestWorld(fleet(ONE, tiers), of=of, budget_ms=5.0)
    world.begin()
    world.token("near")
    world.stream_ends("near")
    assert world.log.predicted_miss
    assert (world.log.serving_tier, world.log.billing_tier) == (Tier.EDGE, Tier.CENTRAL)
