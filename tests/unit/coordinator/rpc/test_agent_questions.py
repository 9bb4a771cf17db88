"""Questions to agents as messages, and their answers as domain values."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest

from coordinator.operations.agents import TraceFilter, TracePlace
from coordinator.rpc.agent_questions import (
    AgentQuestions,
    filter_of,
    filter_to_wire,
    line_of,
    line_to_wire,
    route_to_wire,
)
from protos.domain.errors import EngineFailed
from protos.v1 import fleet_pb2, resources_pb2, trace_pb2
from protos.wire import place_in_order, summary_to_wire, trace_to_wire
from tests.support.traces import trace

ROUTE = fleet_pb2.RouteExplanation(
    deployment="chat",
    via_node="gru-1",
    budget_ms=80.0,
    predicted_miss=True,
    serving_tier=resources_pb2.TIER_EDGE,
    summary="edge",
    candidates=[
        fleet_pb2.CandidateExplanation(
            node_id="gru-1",
            pop_id="GRU",
            tier=resources_pb2.TIER_EDGE,
            zone="BR",
            ttft_ms_p99=96.0,
            terms=[fleet_pb2.Term(name="rtt", value_ms=1.5)],
            price_nano_usd_per_1k_tokens=12,
            fits=True,
            chosen=True,
            verdict="cheapest",
        ),
        fleet_pb2.CandidateExplanation(node_id="iad-1", verdict="dead"),
    ],
)


def at_once(call: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing."""
    with pytest.raises(StopIteration) as ended:
        call.send(None)
    return ended.value.value


def answering(answer: fleet_pb2.Answer) -> AgentQuestions:
    async def ask(node_id: str, query: fleet_pb2.Query) -> fleet_pb2.Answer:
        return answer

    return AgentQuestions(ask)


def test_an_explanation_arrives_unchanged():
    agents = answering(fleet_pb2.Answer(explanation=ROUTE))
    route = at_once(agents.explain("gru-1", "chat", budget_ms=80.0, prompt_tokens=0))
    assert route_to_wire(route) == ROUTE


@pytest.mark.parametrize("answer", [fleet_pb2.Answer(error="no"), fleet_pb2.Answer()])
def test_an_agent_that_cannot_explain_is_an_error(answer):
    with pytest.raises(EngineFailed, match="could not explain"):
        at_once(answering(answer).explain("gru-1", "chat", budget_ms=0.0, prompt_tokens=0))


@pytest.mark.parametrize("order", [trace_pb2.TRACE_ORDER_NEWEST, trace_pb2.TRACE_ORDER_SLOWEST])
@pytest.mark.parametrize("first_token_ms", [None, 12.5])
def test_a_line_of_a_list_arrives_unchanged_at_its_place(order, first_token_ms):
    message = summary_to_wire(trace(3, first_token_ms=first_token_ms))
    line = line_of(message, order)
    assert line_to_wire(line) == message
    assert line.place == place_in_order(message, order)


@pytest.mark.parametrize("after", [None, TracePlace(4.5, "ff")])
def test_a_filter_arrives_unchanged(after):
    asked = TraceFilter("chat", missed=True, slowest=True, limit=7, after=after)
    assert filter_of(filter_to_wire(asked)) == asked
    assert filter_of(trace_pb2.TraceFilter()) == TraceFilter()


def test_a_trace_arrives_unchanged_or_is_not_there():
    message: Any = trace_to_wire(trace(3))
    shown = fleet_pb2.Answer(trace_shown=fleet_pb2.TraceShown(trace=message))
    assert at_once(answering(shown).find_trace("gru-1", "3")) == trace(3)
    assert at_once(answering(fleet_pb2.Answer()).find_trace("gru-1", "3")) is None


def test_an_agent_that_is_too_old_for_a_question_is_an_error_in_its_words():
    with pytest.raises(EngineFailed, match="too old"):
        at_once(answering(fleet_pb2.Answer(error="too old")).find_trace("gru-1", "3"))


def test_a_resume_returns_the_faults_that_stand():
    fault = fleet_pb2.AcceleratorFault(detail="GPU 0 is lost")
    answer = fleet_pb2.Answer(resumption=fleet_pb2.Resumption(standing=[fault]))
    assert at_once(answering(answer).resume("gru-1")) == ["GPU 0 is lost"]


def test_a_canary_is_asked_of_a_node_and_its_speed_is_returned():
    asked = []

    async def ask(node_id: str, query: fleet_pb2.Query) -> fleet_pb2.Answer:
        asked.append((node_id, query.canary.model, query.canary.adapter))
        found = fleet_pb2.CanaryAnswer(text="one", tokens=4, first_token_ms=12.5, tokens_per_s=80.0)
        return fleet_pb2.Answer(canary=found)

    found = at_once(AgentQuestions(ask).canary("gru-1", "acme/m@1", adapter="acme/lora@1"))
    assert (found.text, found.tokens, found.first_token_ms, found.tokens_per_s) == (
        "one",
        4,
        12.5,
        80.0,
    )
    assert asked == [("gru-1", "acme/m@1", "acme/lora@1")]


@pytest.mark.parametrize(
    "answer",
    [fleet_pb2.Answer(error="this agent is too old for the question"), fleet_pb2.Answer()],
)
def test_an_agent_that_sends_no_canary_has_failed(answer):
    with pytest.raises(EngineFailed):
        answering(answer).canary("gru-1", "acme/m@1").send(None)
