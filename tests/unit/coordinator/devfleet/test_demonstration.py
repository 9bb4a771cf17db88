"""The demonstration shows requests as they were, missed budgets included."""

from __future__ import annotations

from coordinator.devfleet.demonstration import CASES, Outcome, describe
from coordinator.devfleet.streamed_answer import StreamedAnswer
from protos.v1 import fleet_pb2
from tests.support.traces import trace

THROUGH_BOM = next(case for case in CASES if case.via == "BOM")


def outcome(first_token_ms: float, tier: str = "regional") -> Outcome:
    answer = StreamedAnswer("Paris.", "dxb-1", tier, "0" * 32, first_token_ms, 5_200, False)
    explanation = fleet_pb2.RouteExplanation(summary="edge capacity is free")
    return Outcome(THROUGH_BOM, "regional", explanation, answer, trace())


def test_a_kept_budget_is_shown_with_the_prediction() -> None:
    text = describe(outcome(131.0))
    assert "regional serves (dxb-1): the only one near enough" in text
    assert "P99 predicted 141 ms, came after 131 ms\n" in text


def test_a_missed_budget_is_shown_too() -> None:
    assert "came after 957 ms, 707 ms over the budget" in describe(outcome(957.0))


def test_an_unexpected_placement_is_shown_with_the_agents_reason() -> None:
    text = describe(outcome(131.0, tier="edge"))
    assert "edge serves (dxb-1), not regional" in text
    assert "edge capacity is free" in text
