"""Laws of every prediction, whatever the outcomes were."""

from __future__ import annotations

import math
import pickle
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.domain.candidates import gather
from protos.domain.learned_ttft import P99, QUANTILES, evidence_of, learned_ms
from protos.domain.predictor import (
    CALIBRATION_OUTCOMES,
    CHANGE_OUTCOMES,
    FEW_OBSERVATIONS,
    Outcome,
    Predictor,
    TargetModel,
)
from protos.domain.regimes import LEAST_MOVED, MOST_MOVED, Load, Place
from protos.domain.resources import EngineProfile
from protos.domain.ttft import Network
from tests.support.fleets import deployment, lookup, node, pop, replica, request, view
from tests.support.fleets import model as a_model
from tests.support.fleets import target as a_target
from tests.support.one_target import predict_learned

PROFILE = EngineProfile(20.0, 0.05, 16, 1_000.0)
#: Of a steady engine, whatever the prompts.
MOST_FALSE_CHANGES_PER_1000 = 2
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


def at_target_ms(target, load, quantile):
    evidence = evidence_of(target, load.backlog_tokens, load.waiting, load.progress_ms)
    return learned_ms(evidence, quantile, *load)


@settings(max_examples=80, deadline=None)
@given(histories, loads, st.integers(0, 3), st.floats(0.0, 1e6))
def test_more_ahead_never_makes_it_sooner_from_one_regime_to_the_next_either(
    history, load, which, more
):
    values = list(load)
    values[which] += more
    heavier, target = Load(*values), taught(history)
    for quantile in QUANTILES:
        lighter_ms = at_target_ms(target, load, quantile)
        assert at_target_ms(target, heavier, quantile) >= lighter_ms * (1.0 - 1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.05, 20.0), min_size=1, max_size=6),
    st.integers(1, 1_000),
    st.sampled_from([Place.BEHIND, Place.FULL]),
)
def test_a_regime_without_outcomes_stays_within_bounds_however_often_others_change(
    speeds, seed, unvisited
):
    """Each change of speed used to multiply it, without end."""
    target = taught(steady(60, seed=seed))
    heavy = Load(500.0, 16.0, 4_000.0, 0.0 if unvisited is Place.BEHIND else 8.0)
    for index in range(60):
        target.learn(Outcome(heavy, 0.0, 2_000.0 + index, 1e6 + index * 4_000.0))
    features, regime = heavy.features(), target.regimes[unvisited]
    before_ms = regime.centre_ms(features), regime.promised_ms(features)
    at_ms = 1e7
    for round_, slow in enumerate(speeds * 10):
        for outcome in steady(30, slow=slow, seed=seed + round_, start_ms=at_ms):
            target.learn(outcome)
        at_ms += 1e6
        now_ms = regime.centre_ms(features), regime.promised_ms(features)
        for before, now in zip(before_ms, now_ms, strict=True):
            assert LEAST_MOVED * 0.99 <= now / before <= MOST_MOVED * 1.01
        free_ms = at_target_ms(target, heavy._replace(backlog_tokens=0.0, waiting=0.0), P99)
        assert at_target_ms(target, heavy, P99) >= free_ms * (1.0 - 1e-9)


tails = st.sampled_from(["lognormal", "pareto", "two sizes"])


def heavy_tailed(count, tail, spread, noise, seed):
    """Outcomes of a steady engine whose prompts have a heavy tail, in crowds and quiet times."""
    chance, at_ms, some = random.Random(seed), 0.0, []
    for index in range(count):
        if tail == "lognormal":
            tokens = 860.0 * chance.lognormvariate(0.0, spread)
        elif tail == "pareto":
            tokens = 150.0 * chance.paretovariate(2.2 - spread / 2)
        else:
            tokens = 12_000.0 if chance.random() < 0.1 else 100.0
        tokens = min(60_000.0, tokens)
        crowd = index % 200 < 60
        in_flight = chance.randint(8, 30) if crowd else chance.randint(0, 3)
        backlog = chance.uniform(500.0, 20_000.0) if crowd and chance.random() < 0.5 else 0.0
        took_ms = (10.0 + in_flight + 0.05 * (tokens + backlog)) * chance.lognormvariate(0.0, noise)
        some.append(Outcome(Load(tokens, in_flight, backlog), 0.0, took_ms, at_ms + took_ms))
        at_ms += took_ms + chance.expovariate(0.001)
    return some


@settings(max_examples=40, deadline=None)
@given(tails, st.floats(0.5, 2.0), st.floats(0.02, 0.5), st.integers(1, 10_000))
def test_heavy_tailed_prompts_are_no_change_of_speed(tail, spread, noise, seed):
    target = taught(heavy_tailed(1_000, tail, spread, noise, seed))
    assert target.changes <= MOST_FALSE_CHANGES_PER_1000


@settings(max_examples=60, deadline=None)
@given(st.lists(outcomes, min_size=40, max_size=60), loads)
def test_a_target_passes_from_its_profile_to_what_was_learned_within_a_factor_of_two(history, load):
    history = [each for each in history if math.isfinite(each.took_ms) and not each.censored]
    target, before = TargetModel(PROFILE), None
    for outcome in sorted(history, key=lambda each: each.at_mono_ms):
        target.learn(outcome)
        if target.observations == FEW_OBSERVATIONS - 1:
            before = placed_ms_p99(target, load)
        if target.observations == FEW_OBSERVATIONS:
            assert 0.5 / 1.001 <= placed_ms_p99(target, load) / before <= 2.0 * 1.001


def placed_ms_p99(target, load):
    """What placement predicts of a node with ``target``, in ``load``."""
    waiting = math.ceil(load.waiting)
    in_flight = max(math.ceil(load.in_flight), PROFILE.max_parallel if waiting else 0)
    state = replace(
        a_target(in_flight=in_flight, queued=waiting),
        backlog_tokens=load.backlog_tokens,
        progress_ms=load.progress_ms,
    )
    asked = replace(request(deployment()), expected_tokens=max(1, int(load.prompt_tokens)))
    fleet = view(pop("GRU"), node("n", "GRU"), replace(replica("n"), profile=PROFILE), a_model())
    (candidate,) = gather(
        fleet, asked, "n", lookup({"n": state}), frozenset(), learned={"n": target}
    )
    return candidate.ttft_ms_p99


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 200),
    st.floats(100.0, 1e6),
    st.integers(0, 300),
)
def test_streams_abandoned_by_one_account_hardly_move_what_others_are_promised(
    count, took_ms, others
):
    target = taught([replace(each, account="b") for each in steady(400)][-100 - others :])
    load = Load(100.0)
    before_ms = at_target_ms(target, load, P99)
    for index in range(count):
        at_ms = 1e7 + index * 4_000.0
        target.learn(Outcome(load, 0.0, took_ms, at_ms, True, account="a", abandoned=True))
    assert at_target_ms(target, load, P99) <= 1.2 * before_ms


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
