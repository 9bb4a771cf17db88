"""Traces exported by the official SDK to a receiver on a real socket, which may be gone or full."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from agent.config import TelemetryConfig
from agent.traces.export import make_export
from agent.traces.otlp import CLOSE_TIMEOUT_S, OtlpExport, read_headers
from protos.domain.errors import ConfigInvalid
from protos.domain.trace import AttemptOutcome, AttemptPurpose, TraceAttempt
from tests.support.otlp_receiver import OtlpReceiver, Received
from tests.support.traces import refused, trace
from tests.support.waiting import wait_until


def config(endpoint: str, **changes: object) -> TelemetryConfig:
    made = TelemetryConfig(
        otlp_endpoint=endpoint,
        otlp_headers_file="",
        sample_ratio=1.0,
        max_queued_spans=4_096,
        export_timeout_ms=2_000.0,
    )
    return replace(made, **changes)


def export(endpoint: str, **changes: object) -> OtlpExport:
    return OtlpExport(config(endpoint, **changes), "bom-1", "BOM", "1.2.3")


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


def test_a_request_is_a_server_span_in_genai_words_with_its_attempts(
    receiver: OtlpReceiver,
) -> None:
    exporter = export(receiver.url)
    one = trace(0xABC)
    exporter.offer(one)
    exporter.close()
    spans = {received.span.name: received for received in receiver.of(one.trace_id)}
    assert set(spans) == {"chat acme-chat", "attempt dxb-1"}
    root, attempt = spans["chat acme-chat"], spans["attempt dxb-1"]
    assert root.span.kind == Span.SPAN_KIND_SERVER
    assert root.span.parent_span_id == b""
    assert root.span.start_time_unix_nano == one.began_unix_ms * 1_000_000
    assert root.span.end_time_unix_nano - root.span.start_time_unix_nano == 420_000_000
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "edgeforge",
        "gen_ai.request.model": "acme-chat",
        "gen_ai.response.model": "acme/chat@1",
        "gen_ai.request.stream": True,
        "gen_ai.usage.input_tokens": 31,
        "gen_ai.usage.output_tokens": 11,
        "gen_ai.usage.cache_read.input_tokens": 16,
        "gen_ai.response.time_to_first_chunk": 0.131,
        "http.response.status_code": 200,
        "edgeforge.tier.serving": "regional",
        "edgeforge.cost.completion_nano_usd": 3_300,
    }
    assert root.attributes.items() >= expected.items()
    assert root.attributes["edgeforge.part.prefill_ms"] == pytest.approx(82.0)
    (first,) = root.span.events
    assert first.name == "edgeforge.first_token"
    assert first.time_unix_nano - root.span.start_time_unix_nano == 131_000_000
    assert attempt.span.kind == Span.SPAN_KIND_CLIENT
    assert attempt.span.parent_span_id == root.span.span_id
    assert attempt.attributes["edgeforge.candidates_fitting"] == 1
    assert (
        root.resource.items()
        >= {
            "service.name": "edgeforge-agent",
            "service.version": "1.2.3",
            "service.instance.id": "bom-1",
        }.items()
    )
    assert exporter.stats.exported_spans == 2


def test_an_error_of_ours_is_an_error_and_a_clients_is_not(receiver: OtlpReceiver) -> None:
    exporter = export(receiver.url)
    exporter.offer(refused(1))
    exporter.offer(replace(refused(2), status=401))
    exporter.close()
    (ours,), (theirs,) = receiver.of(refused(1).trace_id), receiver.of(refused(2).trace_id)
    assert ours.span.status.code == Status.STATUS_CODE_ERROR
    assert ours.attributes["error.type"] == "503"
    assert theirs.span.status.code == Status.STATUS_CODE_UNSET
    assert "error.type" not in theirs.attributes


def attempt_spans(receiver: OtlpReceiver, *attempts: TraceAttempt) -> list[Received]:
    """The spans of one request's attempts as they were received, in order."""
    exporter = export(receiver.url)
    one = trace(1, attempts=attempts)
    exporter.offer(one)
    exporter.close()
    spans = [each for each in receiver.of(one.trace_id) if each.span.kind == Span.SPAN_KIND_CLIENT]
    return sorted(spans, key=lambda each: each.span.name)


@pytest.mark.parametrize("purpose", AttemptPurpose)
def test_an_explored_attempt_that_answered_is_no_error_span_whatever_it_was_for(
    receiver: OtlpReceiver, purpose: AttemptPurpose
) -> None:
    attempt = TraceAttempt("dxb-1", AttemptOutcome.ANSWERED, 1.0, 2.0, purpose=purpose)
    (received,) = attempt_spans(receiver, attempt)
    assert received.span.status.code == Status.STATUS_CODE_UNSET
    assert received.attributes["edgeforge.purpose"] == purpose
    assert received.attributes["edgeforge.outcome"] == "answered"


#: Whoever adds an outcome says here whether the target is to blame for it.
BLAMED = {
    AttemptOutcome.ANSWERED: False,
    AttemptOutcome.CONTINUED: False,
    AttemptOutcome.FAILED: True,
    AttemptOutcome.REFUSED: True,
    AttemptOutcome.ENGINE_ERROR: True,
    AttemptOutcome.LATE: True,
    AttemptOutcome.OVERTAKEN: False,
    AttemptOutcome.BROKEN: True,
    AttemptOutcome.NOT_SENT: False,
    AttemptOutcome.CLIENT_GONE: False,
    AttemptOutcome.REVOKED: False,
    AttemptOutcome.STALE: False,
}


def test_an_attempt_is_an_error_span_exactly_if_its_target_is_to_blame(
    receiver: OtlpReceiver,
) -> None:
    assert set(BLAMED) == set(AttemptOutcome)
    attempts = [
        TraceAttempt(outcome, outcome, 1.0, 2.0, detail="said so") for outcome in AttemptOutcome
    ]
    spans = attempt_spans(receiver, *attempts)
    said = {
        AttemptOutcome(received.attributes["edgeforge.node"]): received.span.status
        for received in spans
    }
    errors = {outcome: status.code == Status.STATUS_CODE_ERROR for outcome, status in said.items()}
    assert errors == BLAMED
    assert said[AttemptOutcome.ENGINE_ERROR].message == "engine error: said so"


def test_only_the_sample_is_sent(receiver: OtlpReceiver) -> None:
    none = export(receiver.url, sample_ratio=0.0)
    none.offer(trace(1))
    none.close()
    assert receiver.requests == 0
    some = export(receiver.url, sample_ratio=0.5)
    for number in range(200):
        # The lower half of the id decides.
        some.offer(trace(number, trace_id=f"{number << 56:032x}"))
    some.close()
    assert 0 < len({received.span.trace_id for received in receiver.spans}) < 200


def test_headers_come_from_a_file_that_only_its_owner_reads(
    receiver: OtlpReceiver, tmp_path: Path
) -> None:
    path = tmp_path / "headers"
    path.write_text("Authorization: Bearer secret-of-the-test\n\nx-scope: a:b\n")
    path.chmod(0o600)
    exporter = export(receiver.url, otlp_headers_file=str(path))
    exporter.offer(trace(1))
    exporter.close()
    assert receiver.spans[0].headers["authorization"] == "Bearer secret-of-the-test"
    assert receiver.spans[0].headers["x-scope"] == "a:b"
    path.chmod(0o644)
    with pytest.raises(ConfigInvalid, match="readable by others"):
        read_headers(str(path))
    path.chmod(0o600)
    path.write_text("secret-without-a-name\n")
    with pytest.raises(ConfigInvalid) as refusal:
        read_headers(str(path))
    assert "secret" not in str(refusal.value.problems).replace(str(path), "")


def dead_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def test_a_receiver_that_is_down_costs_a_bounded_queue_and_a_count() -> None:
    endpoint = f"http://127.0.0.1:{dead_port()}/v1/traces"
    exporter = export(endpoint, max_queued_spans=64, export_timeout_ms=1_000.0)
    for number in range(100):
        exporter.offer(trace(number))  # two spans each
    assert exporter.stats.dropped_traces == 100 - 32, "more than the bound never waits"
    wait_until(lambda: exporter.stats.failed_spans == 64, 30, "the spans to be given up")
    exporter.offer(trace(101))
    assert exporter.stats.dropped_traces == 68, "there is room again"
    exporter.close()


def test_a_receiver_that_refuses_is_used_again_when_it_takes(receiver: OtlpReceiver) -> None:
    receiver.status = 400
    exporter = export(receiver.url)
    exporter.offer(trace(1))
    wait_until(lambda: exporter.stats.failed_spans == 2, 30, "the refusal")
    receiver.status = 200
    exporter.offer(trace(2))
    exporter.close()
    assert exporter.stats.exported_spans == 2
    assert receiver.of(trace(2).trace_id)


def test_a_receiver_that_says_nothing_does_not_hold_up_the_end() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        port = silent.getsockname()[1]
        exporter = export(f"http://127.0.0.1:{port}/v1/traces", export_timeout_ms=600_000.0)
        exporter.offer(trace(1))
        began_s = time.monotonic()
        exporter.close()
        assert time.monotonic() - began_s < CLOSE_TIMEOUT_S + 20


def test_without_an_endpoint_nothing_is_exported() -> None:
    assert make_export(config(""), node_id="n", pop_id="P", version="1") is None


def test_without_the_library_the_way_to_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "agent.traces.otlp", None)
    with pytest.raises(ConfigInvalid) as refusal:
        make_export(config("http://127.0.0.1:9"), node_id="n", pop_id="P", version="1")
    assert "requirements/otlp.txt" in str(refusal.value.hint)
