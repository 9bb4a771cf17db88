"""What is learned of a target: a law of first tokens, a change of speed, and a bound on memory."""

from __future__ import annotations

import math
import random

from protos.domain.learned_ttft import P99, learned_ms
from protos.domain.predictor import FEW_OBSERVATIONS, Outcome, Predictor
from protos.domain.regimes import Load
from tests.support.fleets import profile


def feed(predictor, count, *, slow=1.0, seed=3, start_ms=0.0, account=""):
    """Outcomes of a steady engine; return the share that lay under its promise."""
    chance, under = random.Random(seed), 0
    for index in range(count):
        tokens = chance.randint(10, 4_000)
        took_ms = slow * (10.0 + 0.1 * tokens) * chance.lognormvariate(0.0, 0.1)
        load = Load(tokens, chance.randint(0, 3))
        target = predictor.of_model("m").get("n")
        if target is not None:
            p99 = math.fsum(map(float.__mul__, target.regimes[0].p99, map(float, load.features())))
            under += took_ms <= p99
        outcome = Outcome(load, 0.0, took_ms, start_ms + index * 1_000.0, account=account)
        predictor.learn("n", "m", profile(30.0, prefill_ms_per_token=0.3), outcome)
    return under / count


def test_a_p99_is_a_p99_though_the_profile_was_wrong_by_three():
    predictor = Predictor()
    feed(predictor, 500)
    assert 0.985 <= feed(predictor, 5_000, seed=4, start_ms=1e6) <= 0.997


def test_a_step_either_way_is_followed_within_a_few_dozen_outcomes():
    for slow in (2.0, 0.5):
        predictor = Predictor()
        feed(predictor, 1_000)
        feed(predictor, 40, slow=slow, seed=5, start_ms=1e6)
        centre = predictor.of_model("m")["n"].regimes[0].p50
        assert 0.85 < (centre[0] + centre[1]) / (slow * 110.0) < 1.15


def test_a_profile_that_is_wrong_by_a_factor_is_forgotten_within_a_few_dozen_outcomes():
    for engine_ms in (4.0, 85.0, 400.0):
        predictor, chance, load = Predictor(), random.Random(1), Load(100.0)
        for index in range(48):
            took_ms = engine_ms * chance.uniform(0.94, 1.06)
            outcome = Outcome(load, 0.0, took_ms, index * 1_000.0)
            predictor.learn("n", "m", profile(40.0), outcome)
        free = predictor.of_model("m")["n"].regimes[0]
        assert abs(free.centre_ms(load.features()) / engine_ms - 1.0) < 0.05
        assert free.promised_ms(load.features()) < 1.25 * engine_ms


def test_regimes_that_have_seen_nothing_know_what_a_lighter_one_has_learned():
    predictor = Predictor()
    feed(predictor, 300, slow=4.0)
    free, behind, full = predictor.of_model("m")["n"].regimes
    for load in (Load(2_000.0), Load(100.0, 3.0)):
        least_ms = free.centre_ms(load.features())
        assert behind.centre_ms(load.features()) >= least_ms
        assert full.centre_ms(load.features()) >= least_ms


def test_a_steady_target_never_seems_to_change():
    predictor = Predictor()
    feed(predictor, 3_000)
    assert predictor.of_model("m")["n"].changes == 0


def test_overlapping_outcomes_of_one_stall_are_one_witness():
    predictor = Predictor()
    feed(predictor, 500)
    for index in range(40):
        stalled = Outcome(Load(100.0), 0.0, 9_000.0 - index, 2e6 + index)
        predictor.learn("n", "m", profile(), stalled)
    target = predictor.of_model("m")["n"]
    assert target.changes == 0
    assert target.regimes[0].centre_ms(Load(100.0).features()) < 60.0


def test_few_observations_are_told():
    predictor = Predictor()
    feed(predictor, FEW_OBSERVATIONS - 1)
    assert not predictor.of_model("m")["n"].known
    feed(predictor, 1)
    assert predictor.of_model("m")["n"].known


def test_a_loser_that_was_within_its_promise_teaches_nothing():
    predictor = Predictor()
    feed(predictor, 200)
    before = predictor.of_model("m")["n"].regimes[0].p99
    lost = Outcome(Load(1_000), 0.0, 20.0, 1e6, censored=True)
    predictor.learn("n", "m", profile(), lost)
    assert predictor.of_model("m")["n"].regimes[0].p99 == before


def test_the_target_not_learned_from_for_longest_is_forgotten():
    predictor = Predictor(max_targets=2)
    for node in ("a", "b", "a", "c"):
        predictor.learn(node, "m", profile(), Outcome(Load(1.0), 0.0, 40.0, 0.0))
    assert len(predictor) == 2
    assert set(predictor.of_model("m")) == {"a", "c"}


def test_a_backlog_that_no_clock_could_have_kept_waiting_so_long_counts_as_an_hour():
    predictor = Predictor()
    for number in range(60):
        load = Load(100.0, 1.0, 500.0, 0.0, 1e308)
        predictor.learn("n", "m", profile(), Outcome(load, 5.0, 400.0, number * 1_000.0))
    target = predictor.of_model("m")["n"]
    assert Outcome(load, 5.0, 400.0, 0.0).engine_ms == 3_600_000.0
    assert all(math.isfinite(sum(regime.p99)) for regime in target.regimes)


def idle_ms_p99(predictor):
    target, load = predictor.of_model("m")["n"], Load(100.0)
    return learned_ms(target.evidence[0], P99, *load)


def test_forty_streams_that_one_account_abandoned_do_not_make_an_idle_engine_late():
    """They took its P99 from 53 to 3,048 ms, and another account's strict deployment got 429."""
    for account, abandoned in (("a", True), ("a", False), ("", True)):
        predictor = Predictor()
        feed(predictor, 500, account="b")
        before_ms = idle_ms_p99(predictor)
        for index in range(40):
            took_ms = 2_500.0 + 12.0 * index
            outcome = Outcome(
                Load(100.0), 0.0, took_ms, 1e6 + index * 4_000.0, True, account, abandoned
            )
            predictor.learn("n", "m", profile(), outcome)
        assert idle_ms_p99(predictor) < 1.2 * before_ms
        assert predictor.of_model("m")["n"].changes == 0


def test_losers_of_many_accounts_or_of_the_only_one_still_show_that_a_target_is_slow():
    for accounts in (("a", "b", "c", "d"), ("a",)):
        predictor = Predictor()
        feed(predictor, 500, account="a")
        before_ms = idle_ms_p99(predictor)
        for index in range(40):
            account = accounts[index % len(accounts)]
            outcome = Outcome(Load(100.0), 0.0, 900.0, 1e6 + index * 4_000.0, True, account)
            predictor.learn("n", "m", profile(), outcome)
        assert idle_ms_p99(predictor) > 3.0 * before_ms


def test_an_engine_free_for_long_leaves_what_is_known_of_it_full_where_it_was():
    predictor, chance = Predictor(), random.Random(1)
    feed(predictor, 300)
    full = Load(500.0, 16.0, 4_000.0, 8.0)
    for index in range(60):
        outcome = Outcome(full, 0.0, 4_000.0 * chance.uniform(0.9, 1.1), 1e6 + index * 5_000.0)
        predictor.learn("n", "m", profile(), outcome)
    target = predictor.of_model("m")["n"]
    before_ms = learned_ms(target.evidence[2], P99, *full)
    for number in range(40):
        slow = (0.4, 1.0)[number % 2]
        feed(predictor, 40, slow=slow, seed=number, start_ms=1e7 + number * 1e6)
    assert target.changes >= 20
    assert 0.75 < learned_ms(target.evidence[2], P99, *full) / before_ms < 2.05
