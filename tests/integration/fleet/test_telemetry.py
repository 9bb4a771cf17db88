"""A real agent exports its traces, and does not care whether anybody takes them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import Fleet
from tests.support.otlp_receiver import OtlpReceiver
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


@pytest.fixture(scope="module")
def fleet(receiver: OtlpReceiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with (
        FakeEngineProcess("acme-chat") as engine,
        Fleet(tmp_path_factory.mktemp("o"), [engine.url]) as running,
    ):
        running.configure("gru-1", "telemetry", otlp_endpoint=receiver.url)
        yield running


def test_an_agents_requests_reach_the_receiver_without_their_prompts(
    fleet: Fleet, receiver: OtlpReceiver
) -> None:
    gru = fleet.agent("gru-1")
    messages = [{"role": "user", "content": "words of a customer"}]
    answer = gru.send({"model": gru.model, "messages": messages, "stream": True})
    trace_id = answer.headers["x-edgeforge-trace-id"]
    spans = wait_until(lambda: receiver.of(trace_id), 20, "the spans")
    (root,) = [one for one in spans if not one.span.parent_span_id]
    assert root.attributes["gen_ai.request.model"] == gru.model
    assert root.attributes["gen_ai.usage.output_tokens"] == 8
    assert root.attributes["edgeforge.part.network_ms"] > 0
    told = str([(one.span, one.resource) for one in receiver.spans])
    assert "words of a customer" not in told
    assert "t0 t1" not in told, "what the engine said"
    assert gru.api_key not in told


def test_a_receiver_that_refuses_changes_nothing_for_clients(
    fleet: Fleet, receiver: OtlpReceiver
) -> None:
    gru = fleet.agent("gru-1")
    receiver.status = 400
    for _ in range(5):
        assert gru.chat(stream=True).status == 200
    failed = wait_until(
        lambda: gru.status()["trace_export"]["failed_spans"], 30, "the failure to be counted"
    )
    assert failed >= 2
    receiver.status = 200
    answer = gru.chat(stream=True)
    wait_until(lambda: receiver.of(answer.headers["x-edgeforge-trace-id"]), 20, "spans again")
