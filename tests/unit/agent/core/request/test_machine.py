"""Transcripts of one request: given these events, these commands."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.exploration import SEARCH_EVERY_MS
from agent.core.peer_load import PeerLoad
from agent.core.request.messages import Rest
from agent.core.request.timing import LOOK_AGAIN_MS, RequestPolicy
from protos.domain.pricing import Usage
from protos.domain.resources import NodeIntent, SlaTier, Tier
from protos.domain.trace import AttemptOutcome, AttemptPurpose
from tests.support.fleets import deployment, node, pop, price, replica, view
from tests.support.request_world import (
    ONE,
    QUIET,
    THREE,
    TWO,
    USAGE,
    RequestWorld,
    fleet,
    outcomes,
)

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


def test_an_attempt_counts_as_load_until_it_ends():
    world = RequestWorld(fleet(TWO))
    world.begin()
    assert world.state.live.in_flight("near") == 1
    assert world.state.engine_door.serving == 1
    world.token("near")
    world.stream_ends("near")
    assert world.state.live.in_flight("near") == 0
    assert world.state.engine_door.serving == 0


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
        assert world.whole("far", 500) == ["account", "respond far"]
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


def test_a_silent_stream_that_can_be_continued_elsewhere_is():
    world = RequestWorld(fleet(TWO), policy=QUIET)
    world.begin()
    world.token("near")
    said = world.wait(QUIET.stream_idle_ms + 1.0, rest=Rest.TEXT)
    assert said == ["cancel near", "ask far (rest)"]


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
