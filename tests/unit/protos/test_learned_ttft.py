"""Terms of a learned prediction sum to its P99, and it is never sooner than physics allow."""

import pytest

from protos.domain.learned_ttft import LEARNED_TERMS, SETTLED_OUTCOMES, handed_over_ms
from protos.domain.predictor import FEW_OBSERVATIONS, Outcome, Predictor
from protos.domain.regimes import Load
from protos.domain.router import explain, place
from protos.domain.ttft import Network, network_to
from tests.support.fleets import deployment, lookup, node, pop, profile, replica, request, view
from tests.support.fleets import model as a_model
from tests.support.fleets import target as a_target
from tests.support.one_target import predict_learned

NETWORK = Network(30.0, 0.0, 1.0)
BEHIND = Load(100.0, 1.0, 4_000.0)


def learned(took_ms=80.0, outcomes=200, *, behind_ms=None, node_id="gru-1", of_model="m"):
    """Outcomes of a free engine and, every second one, of one with a backlog."""
    predictor = Predictor()
    for number in range(outcomes):
        noise_ms = (number * 37 % 100) / 10.0
        if behind_ms is None or number % 2:
            outcome = Outcome(Load(100.0), 0.0, took_ms + noise_ms, number * 1_000.0)
        else:
            outcome = Outcome(BEHIND, 0.0, behind_ms + noise_ms, number * 1_000.0)
        predictor.learn(node_id, of_model, profile(100.0), outcome)
    return predictor.of_model(of_model)


def test_terms_sum_to_the_p99_and_carry_the_network():
    prediction = predict_learned(learned()["gru-1"], Load(100.0, 2.0), NETWORK)
    assert prediction.learned
    assert prediction.names == LEARNED_TERMS
    assert sum(prediction.values_ms) == pytest.approx(prediction.ttft_ms_p99)
    assert prediction.values_ms[:3] == NETWORK
    assert prediction.ttft_ms_p50 <= prediction.ttft_ms_p95 <= prediction.ttft_ms_p99


def test_a_target_is_predicted_by_what_it_did():
    prediction = predict_learned(
        learned(took_ms=80.0)["gru-1"], Load(100.0), network_to(0.0, warm=True, body_bytes=0)
    )
    assert 78.0 < prediction.ttft_ms_p50 < 92.0
    assert 88.0 < prediction.ttft_ms_p99 < 130.0


def test_time_that_the_backlog_has_run_is_taken_off_but_never_under_a_free_engine():
    target = learned(behind_ms=400.0)["gru-1"]
    free = predict_learned(target, Load(100.0), NETWORK)
    behind = predict_learned(target, BEHIND, NETWORK)
    half_way = predict_learned(target, Load(100.0, 1.0, 4_000.0, 0.0, 50.0), NETWORK)
    long_ago = predict_learned(target, Load(100.0, 1.0, 4_000.0, 0.0, 1e9), NETWORK)
    assert free.ttft_ms_p99 <= long_ago.ttft_ms_p99 <= half_way.ttft_ms_p99 < behind.ttft_ms_p99
    for each in (half_way, long_ago):
        assert sum(each.values_ms) == pytest.approx(each.ttft_ms_p99)
        assert each.ttft_ms_p50 <= each.ttft_ms_p95 <= each.ttft_ms_p99
        assert dict(each.terms())["progress"] <= 0.0


def one_node():
    return view(pop("GRU"), node("gru-1", "GRU"), replica("gru-1"), a_model())


def test_placement_asks_the_profile_until_a_target_is_known_and_outcomes_from_then_on():
    fleet, shape = one_node(), request(deployment())
    live = lookup({"gru-1": a_target()})
    name = shape.deployment.model
    few = learned(took_ms=400.0, outcomes=FEW_OBSERVATIONS - 1, of_model=name)
    many = learned(took_ms=400.0, outcomes=FEW_OBSERVATIONS, of_model=name)

    def placed(so_far):
        return place(
            fleet, shape, "gru-1", live, draw=0.5, fill=lambda _: 0.0, learned=so_far
        ).chosen.prediction

    assert not placed(few).learned
    assert placed(few).ttft_ms_p99 < 200.0
    assert placed(many).names == LEARNED_TERMS
    assert not placed(many).learned, "no P99 of the target: nobody loses patience by it"
    assert placed(many).ttft_ms_p99 == pytest.approx(2.0 * placed(few).ttft_ms_p99)
    more = learned(took_ms=400.0, outcomes=FEW_OBSERVATIONS + 8, of_model=name)
    assert placed(more).learned
    assert placed(more).ttft_ms_p99 > 400.0
    line = explain(
        fleet, shape, "gru-1", live, draw=0.5, fill=lambda _: 0.0, learned=many
    ).candidates[0]
    assert line.prediction == placed(many)


def test_a_full_engine_is_never_sooner_than_one_with_a_backlog_or_a_free_one():
    """The regime of waits had been multiplied down to nothing."""
    target = learned(behind_ms=400.0)["gru-1"]
    nothing = tuple((0.0,) * len(LEARNED_TERMS[3:-1]) for _ in range(3))
    target.evidence = (target.evidence[0], target.evidence[1], target.evidence[1] + nothing)
    behind = predict_learned(target, BEHIND, NETWORK)
    full = predict_learned(target, BEHIND._replace(waiting=3.0), NETWORK)
    assert full.ttft_ms_p99 >= behind.ttft_ms_p99
    assert full.ttft_ms_p50 >= behind.ttft_ms_p50
    assert sum(full.values_ms) == pytest.approx(full.ttft_ms_p99)


def test_a_p99_is_handed_over_from_the_profile_a_factor_at_a_time():
    assert handed_over_ms(1_000.0, 100.0, 0) == 200.0
    assert handed_over_ms(1_000.0, 100.0, 1) == 400.0
    assert handed_over_ms(1.0, 100.0, 0) == 50.0
    assert handed_over_ms(130.0, 100.0, 0) == 130.0
    assert handed_over_ms(1_000.0, 100.0, SETTLED_OUTCOMES) == 1_000.0
