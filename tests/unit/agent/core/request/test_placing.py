"""Where each attempt of a request goes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.exploration import explored_patience_ms
from agent.core.prefixes import prompt_blocks
from agent.core.request.placing import Placer
from agent.core.request.state import RouterState
from protos.domain.errors import BudgetUnreachable, InvalidRequest, NoReplica
from protos.domain.fleet_view import with_changes
from protos.domain.predictor import FEW_OBSERVATIONS, Outcome
from protos.domain.regimes import Load
from protos.domain.resources import Tier
from protos.domain.trace import AttemptPurpose
from tests.support import fleets
from tests.support.router_states import SELF, attempt_at, request_context, router_state

STRICT = fleets.deployment(strict=True)
#: The cheapest first, which is the order while all are in time.
BY_PRICE = ["iad-1", "scl-1", SELF]


def learn(state: RouterState, node_id: str, took_ms: float) -> None:
    """Let the predictor learn enough first tokens of ``took_ms`` that ``node_id`` is known."""
    for number in range(2 * FEW_OBSERVATIONS):
        outcome = Outcome(Load(111.0), 0.0, took_ms, float(number))
        state.predictor.learn(node_id, fleets.MODEL, fleets.profile(), outcome)


def test_every_further_attempt_goes_to_a_node_that_was_not_tried() -> None:
    state = router_state()
    placer, went = Placer(state, request_context(state)), []
    for _ in BY_PRICE:
        went.append(placer.next_attempt(0.0).chosen.node.id)
        placer.tried |= {went[-1]}
    assert went == BY_PRICE
    with pytest.raises(NoReplica):
        placer.next_attempt(0.0)


def test_a_target_cut_for_lateness_is_asked_again_if_no_other_is_left() -> None:
    state = router_state()
    placer = Placer(state, request_context(state))
    placer.tried = frozenset(BY_PRICE)
    placer.late = frozenset(("scl-1",))
    for _ in range(3):
        state.live.late("scl-1", 0.0)
    assert placer.next_attempt(1.0).chosen.node.id == "scl-1", "though it is ejected for lateness"
    assert (placer.late, "scl-1" in placer.tried) == (frozenset(), False)


def test_the_budget_left_excludes_the_last_mile_and_the_time_spent() -> None:
    state = router_state()
    request = request_context(state, budget_ms=300.0, last_mile_ms=40.0, first_byte_mono_ms=100.0)
    placer = Placer(state, request)
    assert placer.place(120.0).chosen.node.id == "scl-1", "the cheapest takes about 265 ms"
    assert placer.budget_left_ms == 240.0
    assert placer.place(250.0).chosen.node.id == SELF
    assert placer.budget_left_ms == 110.0


def test_a_prompts_tokens_are_estimated_from_the_deployments_earlier_bodies() -> None:
    state = router_state()
    request = request_context(state, body_bytes=4_000)
    state.prompt_tokens.counted(request.deployment.name, 4_000, 2_000)
    assert Placer(state, request).place(0.0).chosen.request.expected_tokens == 2_000


def test_a_prompt_longer_than_every_context_is_not_placed() -> None:
    state = router_state()
    placer = Placer(state, request_context(state, prompt_tokens=100_000))
    with pytest.raises(InvalidRequest):
        placer.next_attempt(0.0)
    assert placer.another(0.0) is None
    assert placer.second_copy(0.0) is None


def test_residency_of_the_request_header_applies_to_every_attempt() -> None:
    state = router_state()
    placer = Placer(state, request_context(state, zones=frozenset(("EU",))))
    with pytest.raises(NoReplica):
        placer.next_attempt(0.0)
    assert placer.another(0.0) is None


def test_pins_and_zones_are_those_of_now_at_every_attempt() -> None:
    rows = fleets.three_tiers()
    state = router_state(rows)
    pinned = fleets.deployment(pins=frozenset(("scl-1", SELF)))
    placer = Placer(state, request_context(state, deployment=pinned))
    moved = replace(pinned, pins=frozenset((SELF,)))
    now = with_changes(rows, (), [moved])
    state.view = lambda: now
    assert placer.next_attempt(0.0).chosen.node.id == SELF, "the pin moved after the admission"
    placer.tried = frozenset((SELF,))
    assert placer.another(0.0) is None
    assert placer.second_copy(0.0) is None
    elsewhere = with_changes(rows, (), [replace(moved, residency_zones=("EU",))])
    state.view = lambda: elsewhere
    placer.tried = frozenset()
    with pytest.raises(NoReplica):
        placer.next_attempt(0.0)


def test_the_expected_prefix_of_the_prompt_is_looked_up() -> None:
    state, blocks = router_state(), prompt_blocks(b"x" * 1_024, fleets.MODEL, "salt")
    state.prefixes.record("iad-1", fleets.MODEL, 1, blocks, 0.0)
    placement = Placer(state, request_context(state, blocks=blocks)).place(1.0)
    cached = {each.node.id: each.state.cached_ratio for each in placement.candidates}
    assert cached["iad-1"] > 0.5
    assert cached["scl-1"] == 0.0


# --- second copies and replacements


def test_a_second_copy_goes_to_the_soonest_that_is_in_time_and_not_running() -> None:
    state = router_state()
    placer = Placer(state, request_context(state))
    placer.tried = frozenset((SELF,))
    copy = placer.second_copy(0.0)
    assert copy is not None
    assert (copy.chosen.node.id, copy.serving_tier) == ("scl-1", Tier.REGIONAL)


def test_no_second_copy_without_a_target_in_time() -> None:
    state = router_state()
    for strict in (False, True):
        request = request_context(
            state, budget_ms=10.0, deployment=fleets.deployment(strict=strict)
        )
        assert Placer(state, request).second_copy(0.0) is None


def test_strictness_does_not_apply_once_the_first_token_is_late() -> None:
    state = router_state()
    placer = Placer(state, request_context(state, deployment=STRICT, budget_ms=10.0))
    placer.tried = frozenset((SELF,))
    with pytest.raises(BudgetUnreachable):
        placer.place(0.0)
    other = placer.another(0.0)
    assert other is not None
    assert other.chosen.node.id != SELF


def test_an_attempt_is_compared_with_the_soonest_untried_target() -> None:
    state = router_state()
    request = request_context(state)
    placer, attempt = Placer(state, request), attempt_at(state, request, SELF)
    placer.tried = frozenset((SELF,))
    ttfts = {each.node.id: each.ttft_ms_p99 for each in attempt.placement.candidates}
    other_ms = placer.other_ttft_ms_p99(attempt.placement)
    assert other_ms == ttfts["scl-1"] < ttfts["iad-1"]
    expectation = placer.expectation(attempt, other_ms)
    assert (expectation.ttft_ms_p99, expectation.other_ttft_ms_p99) == (ttfts[SELF], other_ms)
    assert (expectation.learned, expectation.budget_left_ms) == (False, attempt.budget_left_ms)
    placer.tried = frozenset(BY_PRICE)
    assert placer.other_ttft_ms_p99(attempt.placement) is None


# --- exploration and trials


def explorable() -> RouterState:
    """The own node was slow, so it gets no request, although its profile is fast."""
    state = router_state(
        fleets.view(
            *(fleets.pop("GRU"), fleets.pop("SCL"), fleets.pop("IAD")),
            *(fleets.node(SELF, "GRU"), fleets.node("scl-1", "SCL"), fleets.node("iad-1", "IAD")),
            *(fleets.model(), fleets.deployment(), fleets.price(Tier.EDGE, 10)),
            *(fleets.replica(node_id) for node_id in (SELF, "scl-1", "iad-1")),
        ),
        explore_ratio=1.0,
    )
    learn(state, "scl-1", 60.0)
    learn(state, SELF, 5_000.0)
    return state


def test_a_streams_first_attempt_may_explore_and_falls_back_in_time() -> None:
    state = explorable()
    state.exploration.budget.earn()
    now_mono_ms = 100_000.0
    placer = Placer(state, request_context(state, first_byte_mono_ms=now_mono_ms))
    usual = placer.place(now_mono_ms).chosen
    explored = placer.next_attempt(now_mono_ms)
    assert usual.node.id == "scl-1"
    assert explored.chosen.node.id != "scl-1"
    finding = placer.finding
    assert finding is not None
    assert (finding.purpose, finding.trial) == (AttemptPurpose.EXPLORE, None)
    assert finding.patience_ms == explored_patience_ms(1_000.0, usual.ttft_ms_p99)
    placer.tried = frozenset((explored.chosen.node.id,))
    placer.next_attempt(now_mono_ms)
    assert placer.finding is None, "a replacement finds nothing out"


@pytest.mark.parametrize("changes", [{"stream": False}, {"deployment": STRICT}])
def test_neither_whole_answers_nor_strict_deployments_explore(changes: dict[str, object]) -> None:
    state = explorable()
    state.exploration.budget.earn()
    placer = Placer(state, request_context(state, first_byte_mono_ms=1e5, **changes))
    assert placer.next_attempt(1e5).chosen.node.id == "scl-1"
    assert (placer.finding, state.exploration.budget.sent) == (None, 0)


def test_without_a_saved_share_there_is_no_exploration() -> None:
    state = explorable()
    placer = Placer(state, request_context(state, first_byte_mono_ms=1e5))
    assert placer.next_attempt(1e5).chosen.node.id == "scl-1"
    assert placer.finding is None


def test_a_strict_request_without_a_target_in_time_may_be_a_trial_once() -> None:
    state = router_state(explore_ratio=0.01)
    for node_id in BY_PRICE:
        learn(state, node_id, 5_000.0)
    request = request_context(
        state, deployment=STRICT, budget_ms=150.0, first_byte_mono_ms=10_000.0
    )
    placer = Placer(state, request)
    placement = placer.next_attempt(10_000.0)
    assert (placement.chosen.node.id, placement.predicted_miss) == (SELF, True)
    finding = placer.finding
    assert finding is not None
    assert (finding.purpose, finding.trial) == (AttemptPurpose.TRIAL, placement.chosen)
    assert finding.deadline_mono_ms == 10_150.0
    with pytest.raises(BudgetUnreachable):
        Placer(state, request).next_attempt(10_000.0)


def test_without_exploration_a_strict_request_is_refused() -> None:
    state = router_state(explore_ratio=0.0)
    for node_id in BY_PRICE:
        learn(state, node_id, 5_000.0)
    placer = Placer(state, request_context(state, deployment=STRICT, budget_ms=150.0))
    with pytest.raises(BudgetUnreachable):
        placer.next_attempt(0.0)
