"""The demonstration shows how weights came into an engine, whatever it was."""

from __future__ import annotations

import dataclasses
import json

import pytest

from coordinator.devfleet import weights_demonstration
from coordinator.devfleet.brought_weights import ADAPTED, TUNED, BroughtDeployment
from coordinator.devfleet.layout import AgentFacts, FleetFacts
from coordinator.devfleet.streamed_answer import StreamedAnswer
from coordinator.devfleet.weights_demonstration import (
    WeightsOutcome,
    demonstrate_weights,
    describe_cold_start,
    describe_weights,
)
from protos.domain.errors import EdgeForgeError
from protos.domain.trace import TraceColdStart
from tests.support.traces import trace

FROM_DISK = TraceColdStart("adapter", "disk", 3_670_016, 143.0, 0.0)


def answer(first_token_ms: float, node: str = "gru-1") -> StreamedAnswer:
    return StreamedAnswer("Paris.", node, "edge", "0" * 32, first_token_ms, 5_200, False)


def outcome(
    cold: TraceColdStart | None,
    deployment: BroughtDeployment = ADAPTED,
    again: StreamedAnswer | None = None,
) -> WeightsOutcome:
    first = dataclasses.replace(trace(), cold_start=cold)
    return WeightsOutcome(deployment, "GRU", answer(260.0), first, again or answer(75.0))


def test_an_adapter_s_cold_start_is_shown_with_its_size_source_and_time() -> None:
    text = describe_weights(outcome(FROM_DISK))
    assert text.startswith("smollm2-135m-lora, a LoRA adapter of the base, through GRU")
    assert "cold start: 3.5 MiB from disk in 143 ms; loaded into the running engine\n" in text
    assert "came after 260 ms; asked again after 75 ms\n" in text
    assert "edgeforge trace show " + "0" * 32 in text


def test_a_pull_and_a_swap_are_shown_as_parts_of_it() -> None:
    cold = TraceColdStart("swap", "host_memory", 269_000_000, 900.0, 400.0)
    text = describe_cold_start(cold)
    assert "from host memory in 900 ms, 400 ms of it to get them to its disk" in text
    assert text.endswith("in the place of the weights there")


def test_a_way_that_is_not_known_here_is_shown_by_its_own_word() -> None:
    assert describe_cold_start(TraceColdStart("ipc", "disk", 1, 1.0, 0.0)).endswith("; ipc")


def test_what_was_in_the_engine_is_said_to_have_been_there() -> None:
    assert "no cold start: it was in the engine" in describe_weights(outcome(None, TUNED))


def test_a_second_answer_from_another_node_is_not_passed_off_as_the_same() -> None:
    text = describe_weights(outcome(FROM_DISK, again=answer(90.0, "iad-1")))
    assert "asked again after 90 ms from iad-1" in text


def test_what_is_not_answered_is_said_and_the_rest_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ask(_client, _agent, _key, deployment):
        if deployment is ADAPTED:
            raise EdgeForgeError("no engine took it")
        return outcome(None, TUNED)

    monkeypatch.setattr(weights_demonstration, "_ask_twice", ask)
    said: list[str] = []
    agent = AgentFacts("iad-1", "IAD", "central", "vllm", "", 1, 2, 3)
    shown = demonstrate_weights(None, FleetFacts(agents=[agent]), "key", said.append)
    assert [one.deployment for one in shown] == [TUNED]
    assert "smollm2-135m-lora was not answered: no engine took it" in "".join(said)


def test_json_says_what_was_served_and_the_cold_start() -> None:
    told = json.loads(json.dumps(outcome(FROM_DISK).as_json()))
    assert told["deployment"] == "smollm2-135m-lora"
    assert told["cold_start"]["path"] == "adapter"
    assert told["cold_start"]["took_ms"] == 143.0
    assert (told["ttft_ms"], told["again_ttft_ms"]) == (260.0, 75.0)
    assert json.loads(json.dumps(outcome(None).as_json()))["cold_start"] is None
