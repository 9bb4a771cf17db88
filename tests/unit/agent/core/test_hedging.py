"""How many second copies may be sent, when, and where."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.core.hedging import (
    HEDGE_AT_LEAST_MS,
    MAX_SAVED_HEDGES,
    HedgeBudget,
    hedge_after_ms,
    hedge_to,
)
from protos.domain.router import place
from protos.domain.ttft import Prediction
from tests.support.fleets import lookup, request, target, three_tiers


@given(
    ratio=st.floats(0.0, 1.0),
    steps=st.lists(st.booleans(), max_size=400),
)
def test_hedges_never_exceed_their_share_at_any_moment(ratio: float, steps: list[bool]) -> None:
    budget = HedgeBudget(ratio)
    for wants_hedge in steps:
        budget.earn()
        if wants_hedge:
            budget.take()
        assert budget.sent <= ratio * budget.requests + 1e-6
        assert budget.share <= ratio + 1e-6


def test_the_first_hedge_waits_for_its_share_of_requests() -> None:
    budget = HedgeBudget(0.25)
    for _ in range(3):
        budget.earn()
    assert not budget.take()
    budget.earn()
    assert budget.take()
    assert not budget.take()
    assert budget.share == 0.25


def test_saved_extras_are_bounded() -> None:
    budget = HedgeBudget(0.5)
    for _ in range(1_000):
        budget.earn()
    taken = sum(budget.take() for _ in range(1_000))
    assert taken == MAX_SAVED_HEDGES


def test_a_share_of_zero_disables_extras() -> None:
    budget = HedgeBudget(0.0)
    for _ in range(1_000):
        budget.earn()
    assert not budget.enabled
    assert not budget.take()


def test_a_hedge_waits_for_the_p95_and_a_minimum_time() -> None:
    assert 150.0 < hedge_after_ms(Prediction(100.0, 200.0, ())) < 200.0
    assert hedge_after_ms(Prediction(1.0, 2.0, ())) == HEDGE_AT_LEAST_MS
    assert hedge_after_ms(Prediction(100.0, 200.0, (), ttft_ms_p95=120.0)) == 120.0


def candidates(budget_left_ms: float, **states):
    return place(
        three_tiers(),
        request(budget_left_ms=budget_left_ms),
        "gru-1",
        lookup(states, target()),
        draw=0.0,
        fill=lambda _node: 0.0,
    ).candidates


def chosen(budget_left_ms: float, *running: str, **states) -> str | None:
    found = hedge_to(candidates(budget_left_ms, **states), frozenset(running))
    return None if found is None else found.node.id


def test_the_copy_goes_to_the_soonest_other_that_is_in_time() -> None:
    assert chosen(300.0, "gru-1") == "scl-1"
    assert chosen(300.0, "scl-1") == "gru-1"


def test_no_copy_is_sent_without_another_target_in_time() -> None:
    assert chosen(120.0, "gru-1") is None


def test_a_full_target_gets_no_copy() -> None:
    found = hedge_to(
        [one for one in candidates(10_000.0) if one.node.id != "scl-1"], frozenset(("gru-1",))
    )
    assert found is not None
    found.headroom = 0
    assert hedge_to([found], frozenset()) is None
