"""Laws of every prediction, whatever the outcomes were."""

from __future__ import annotations

import math
import pickle
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.domain.predictor import (
    CALIBRATION_OUTCOMES,
    CHANGE_OUTCOMES,
    FEW_OBSERVATIONS,
    Outcome,
    Predictor,
    TargetModel,
)
from protos.domain.regimes import Load
from protos.domain.resources import EngineProfile
from protos.domain.ttft import Network
from tests.support.one_target import predict_learned

PROFILE = EngineProfile(20.0, 0.05, 16, 1_000.0)
HERE = Network(0.0, 0.0, 0.0)

sizes = st.floats(0.0, 1e6)
loads = st.builds(
    Load,
    prompt_tokens=sizes,
    in_flight=st.floats(0.0, 1e4),
    backlog_tokens=st.just(0.0) | sizes,
    waiting=st.just(0.0) | st.floats(0.0, 1e4),
    progress_ms=st.just(0.0) | sizes,
)
outcomes = st.builds(
    Outcome,
    load=loads,
    network_ms=st.floats(0.0, 1e3),
    took_ms=st.floats(0.0, 1e7) | st.sampled_from([math.nan, math.inf]),
    at_mono_ms=st.floats(0.0, 1e9),
    censored=st.booleans(),
)
histories = st.lists(outcomes, max_size=60).map(
    lambda some: sorted(some, key=lambda each: each.at_mono_ms)
)


def taught(history):
    target = TargetModel(PROFILE)
    for outcome in history:
        target.learn(outcome)
    return target


def steady(count, *, slow=1.0, seed=1, start_ms=0.0):
    """Outcomes of an engine that takes 10 ms and 0.05 ms a token, a tenth more or less."""
    chance, some = random.Random(seed), []
    for index in range(count):
        load = Load(chance.uniform(10.0, 4_000.0), chance.randint(0, 4))
        took_ms = slow * (10.0 + 0.05 * load.prompt_tokens) * chance.lognormvariate(0.0, 0.1)
        some.append(Outcome(load, 0.0, took_ms, start_ms + index * 2_000.0))
    return some


@settings(max_examples=40, deadline=None)
@given(histories, loads)
def test_quantiles_are_finite_in_order_and_not_below_zero(history, load):
    prediction = predict_learned(taught(history), load, HERE)
    p50, p95, p99 = prediction.ttft_ms_p50, prediction.ttft_ms_p95, prediction.ttft_ms_p99
    assert 0.0 <= p50 <= p95 * (1.0 + 1e-9)
    assert p95 <= p99 * (1.0 + 1e-9)
    assert math.isfinite(p99)


@settings(max_examples=40, deadline=None)
@given(histories, loads, st.integers(0, 3), st.floats(0.0, 1e6))
def test_more_of_anything_never_makes_it_sooner(history, load, which, more):
    values = list(load)
    before = load.place
    values[which] += more
    heavier = Load(*values)
    if heavier.place is not before:
        return  # A regime promises for itself.
    regime = taught(history).regimes[before]
    for at in (regime.centre_ms, regime.promised_ms):
        assert at(heavier.features()) >= at(load.features())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), outcomes), max_size=80))
def test_memory_is_bounded_by_targets_and_a_target_by_its_windows(some):
    predictor = Predictor(max_targets=3)
    for node_id, outcome in some:
        predictor.learn(node_id, "m", PROFILE, outcome)
        assert len(predictor) <= 3
        assert len(predictor.of_model("m")) == len(predictor)


def test_a_target_stops_growing():
    target = taught(steady(3_000))
    before = len(pickle.dumps(target))
    for outcome in steady(3_000, seed=2, start_ms=1e8):
        target.learn(outcome)
    assert len(pickle.dumps(target)) < 1.02 * before


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), outcomes), max_size=60))
def test_targets_learn_nothing_of_each_other(some):
    mixed, apart = Predictor(), Predictor()
    for node_id, outcome in some:
        mixed.learn(node_id, "m", PROFILE, outcome)
    for node_id, outcome in sorted(some, key=lambda each: each[0]):
        apart.learn(node_id, "m", PROFILE, outcome)
    assert {name: _coefficients(one) for name, one in mixed.of_model("m").items()} == {
        name: _coefficients(one) for name, one in apart.of_model("m").items()
    }


def _coefficients(target):
    return [(regime.p50, regime.p95, regime.p99) for regime in target.regimes]


@settings(max_examples=40, deadline=None)
@given(histories, outcomes)
def test_a_censored_outcome_never_lowers_a_p99(history, outcome):
    target = taught([*steady(40, start_ms=-1e6), *history])
    if len(target._votes) >= CHANGE_OUTCOMES - 1:
        return  # It may complete the detection of a change of speed.
    before = [regime.p99 for regime in target.regimes]
    lost = Outcome(outcome.load, outcome.network_ms, outcome.took_ms, 2e9, censored=True)
    target.learn(lost)
    for regime, earlier in zip(target.regimes, before, strict=True):
        assert all(now >= then for now, then in zip(regime.p99, earlier, strict=True))


@settings(deadline=None)
@given(st.sampled_from(["took_ms", "network_ms", "prompt_tokens", "in_flight", "waiting"]))
def test_values_that_are_not_numbers_are_not_learned(field):
    target = taught(steady(50))
    before = _coefficients(target)
    good = steady(1, start_ms=1e7)[0]
    if field in Load._fields:
        target.learn(replace(good, load=good.load._replace(**{field: math.nan})))
    else:
        target.learn(replace(good, **{field: math.nan}))
    assert _coefficients(target) == before


@settings(max_examples=40, deadline=None)
@given(histories)
def test_few_outcomes_do_not_make_a_target_known(history):
    target = taught(history)
    assert target.known == (target.observations >= FEW_OBSERVATIONS)
    assert target.observations <= len(history)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(CALIBRATION_OUTCOMES + 1, 400),
    st.floats(0.0, 1e9),
    st.tuples(st.floats(0.0, 4_000.0), st.floats(0.0, 4.0)).map(lambda some: Load(*some)),
)
def test_one_outlier_of_any_size_hardly_moves_a_median(count, took_ms, load):
    target = taught(steady(count))
    typical = Load(1_000.0, 2.0).features()
    before_ms = target.regimes[0].centre_ms(typical)
    target.learn(Outcome(load, 0.0, took_ms, 1e9))
    assert target.regimes[0].centre_ms(typical) == pytest.approx(before_ms, rel=0.2)


@settings(max_examples=25, deadline=None)
@given(
    st.floats(0.3, 4.0).filter(lambda factor: abs(math.log(factor)) > 0.25), st.integers(1, 1_000)
)
def test_a_change_of_speed_is_followed_within_sixty_outcomes(factor, seed):
    target = taught(steady(400, seed=seed))
    for outcome in steady(60, slow=factor, seed=seed + 1, start_ms=1e7):
        target.learn(outcome)
    typical = Load(2_000.0, 2.0).features()
    assert target.regimes[0].centre_ms(typical) == pytest.approx(110.0 * factor, rel=0.2)
