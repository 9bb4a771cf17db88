"""A target that is closed to strict deployments gets a trial request at intervals."""

from __future__ import annotations

from agent.core.half_open import MAX_PAUSE_MS, MAX_TARGETS, TRIAL_EVERY_MS, HalfOpenTargets
from protos.domain.candidates import gather
from protos.domain.predictor import FEW_OBSERVATIONS, Outcome, Predictor
from protos.domain.regimes import Load
from protos.domain.resources import Tier
from tests.support.fleets import (
    MODEL,
    lookup,
    model,
    node,
    pop,
    price,
    profile,
    replica,
    request,
    target,
    view,
)

NEAR = lookup({}, default=target())
BUDGET_MS = 100.0


def candidates(*, took_ms=400.0, outcomes=100, live=NEAR, names=("gru-1",), first_token_ms=20.0):
    """Targets that were slow, whatever their profile says."""
    fleet = view(
        pop("GRU"),
        model(),
        price(Tier.EDGE, 10),
        *(node(name, "GRU") for name in names),
        *(replica(name, first_token_ms) for name in names),
    )
    predictor = Predictor()
    for name in names:
        for number in range(outcomes):
            outcome = Outcome(Load(10.0), 0.0, took_ms, float(number))
            predictor.learn(name, MODEL, profile(first_token_ms), outcome)
    shape = request(budget_left_ms=BUDGET_MS)
    return gather(fleet, shape, "nobody", live, frozenset(), None, predictor.of_model(MODEL))


def test_a_strict_deployment_tries_a_late_target_again():
    slow = candidates()
    assert not slow[0].fits
    assert HalfOpenTargets().choose_trial(slow, BUDGET_MS, 0.0) is slow[0]


def test_trials_run_one_at_a_time():
    trials, slow = HalfOpenTargets(), candidates()
    assert trials.choose_trial(slow, BUDGET_MS, 0.0) is slow[0]
    assert trials.choose_trial(slow, BUDGET_MS, TRIAL_EVERY_MS - 1.0) is None
    assert trials.choose_trial(slow, BUDGET_MS, TRIAL_EVERY_MS) is slow[0]
    assert trials.sent == 2


def test_a_trial_in_time_may_be_followed_at_once():
    trials, slow = HalfOpenTargets(), candidates()
    trials.choose_trial(slow, BUDGET_MS, 0.0)
    trials.ended(slow[0], 30.0, in_time=True)
    assert trials.choose_trial(slow, BUDGET_MS, 30.0) is slow[0]


def test_each_late_trial_doubles_the_pause_up_to_a_limit():
    trials, slow, now = HalfOpenTargets(), candidates(), 0.0
    assert trials.choose_trial(slow, BUDGET_MS, now) is slow[0]
    for pause_s in (2, 4, 8, 16, 30, 30):
        trials.ended(slow[0], now, in_time=False)
        now += 1_000.0 * pause_s
        assert trials.choose_trial(slow, BUDGET_MS, now - 1.0) is None
        assert trials.choose_trial(slow, BUDGET_MS, now) is slow[0]
    assert pause_s * 1_000.0 == MAX_PAUSE_MS


def test_no_trial_if_the_profile_is_late_too():
    assert HalfOpenTargets().choose_trial(candidates(first_token_ms=90.0), BUDGET_MS, 0.0) is None


def test_an_unknown_target_is_tried_although_its_profile_is_late():
    """A profile worse than the engine would close it to a strict deployment for ever."""
    unknown = candidates(outcomes=FEW_OBSERVATIONS - 1, first_token_ms=250.0)
    assert not unknown[0].fits
    assert HalfOpenTargets().choose_trial(unknown, BUDGET_MS, 0.0) is unknown[0]
    known = candidates(outcomes=FEW_OBSERVATIONS, first_token_ms=250.0)
    assert HalfOpenTargets().choose_trial(known, BUDGET_MS, 0.0) is None


def test_no_trial_if_the_target_would_have_to_be_much_faster_than_its_profile():
    slow = candidates(outcomes=0, first_token_ms=900.0)
    assert HalfOpenTargets().choose_trial(slow, BUDGET_MS, 0.0) is None


def test_no_trial_if_the_network_alone_takes_too_long():
    far = lookup({}, default=target(BUDGET_MS + 1.0))
    assert HalfOpenTargets().choose_trial(candidates(outcomes=0, live=far), BUDGET_MS, 0.0) is None


def test_no_trial_without_a_free_place():
    full = candidates(live=lookup({}, default=target(in_flight=4)))
    assert HalfOpenTargets().choose_trial(full, BUDGET_MS, 0.0) is None


def test_remembered_targets_are_bounded():
    trials = HalfOpenTargets()
    for number in range(MAX_TARGETS + 10):
        slow = candidates(names=(f"gru-{number}",), outcomes=20)
        assert trials.choose_trial(slow, BUDGET_MS, 0.0) is slow[0]
    assert len(trials) == MAX_TARGETS
