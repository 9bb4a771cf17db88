"""Exports traces as OpenTelemetry spans over OTLP with the official SDK, off the event loop.

Attributes are named by the GenAI semantic conventions where these have a name, ``edgeforge.*``
elsewhere. Traces hold neither prompts nor answers, so none are exported.
Source: opentelemetry.io/docs/specs/semconv/gen-ai, as in the version of the package installed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import HTTP_RESPONSE_STATUS_CODE
from opentelemetry.semconv.attributes.url_attributes import URL_PATH
from opentelemetry.trace import SpanKind, Status, StatusCode

from agent.formats import FORMATS
from agent.traces.stats import ExportStats
from protos.domain.errors import ConfigInvalid
from protos.domain.residency import may_leave
from protos.domain.trace import token_pace, waterfall

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from agent.config import TelemetryConfig
    from protos.domain.trace import Trace, TraceAttempt

_log = logging.getLogger(__name__)

SERVICE_NAME = "edgeforge-agent"
PROVIDER = "edgeforge"
#: Interval between batches of finished spans, and the most spans in one.
_SCHEDULE_MS = 1_000.0
_MAX_BATCH_SPANS = 512
#: Longest time that closing waits for spans to be sent.
CLOSE_TIMEOUT_S = 3.0
_MAX_HEADERS_BYTES = 64 * 1024


class OtlpExport:
    """Sends finished traces to a receiver. Not thread-safe: used by the keeper's thread."""

    def __init__(self, config: TelemetryConfig, node_id: str, pop_id: str, version: str) -> None:
        """Open no connection yet. Raises: ConfigInvalid for an unusable headers file."""
        self.stats = ExportStats()
        self._zone = config.zone
        self._max_queued_spans = config.max_queued_spans
        self._offered_spans = 0
        sender = OTLPSpanExporter(
            endpoint=config.otlp_endpoint,
            headers=read_headers(config.otlp_headers_file),
            timeout=config.export_timeout_ms / 1_000,
        )
        self._processor = BatchSpanProcessor(
            _CountingExporter(sender, self.stats),
            max_queue_size=config.max_queued_spans,
            max_export_batch_size=min(_MAX_BATCH_SPANS, config.max_queued_spans),
            schedule_delay_millis=_SCHEDULE_MS,
            export_timeout_millis=config.export_timeout_ms,
        )
        self._ids = _GivenTraceIds()
        provider = TracerProvider(
            sampler=TraceIdRatioBased(config.sample_ratio),
            resource=Resource.create(
                {
                    "service.name": SERVICE_NAME,
                    "service.version": version,
                    "service.instance.id": node_id,
                    "edgeforge.pop": pop_id,
                }
            ),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("edgeforge.traces", version)

    def offer(self, trace: Trace) -> None:
        """Queue the spans of ``trace``, or drop it when too many are queued."""
        stats = self.stats
        if not may_leave(trace.zones, self._zone):
            stats.withheld_traces += 1
            return
        waiting = self._offered_spans - stats.exported_spans - stats.failed_spans
        spans = 1 + len(trace.attempts)
        if waiting + spans > self._max_queued_spans:
            stats.dropped_traces += 1
            return
        self._ids.next_trace_id = int(trace.trace_id, 16)
        root = self._tracer.start_span(
            f"{_operation(trace)} {trace.deployment}".strip(),
            context=Context(),
            kind=SpanKind.SERVER,
            attributes=request_attributes(trace),
            start_time=_unix_ns(trace, 0.0),
        )
        if not root.is_recording():
            return  # not in the sample
        self._offered_spans += spans
        for attempt in trace.attempts:
            self._attempt(trace, attempt, otel.set_span_in_context(root, Context()))
        if trace.first_token_ms is not None:
            first_ns = _unix_ns(trace, trace.first_token_ms)
            root.add_event("edgeforge.first_token", timestamp=first_ns)
        if _failed(trace):
            root.set_status(Status(StatusCode.ERROR, trace.error))
        root.end(_unix_ns(trace, trace.ended_ms))

    def close(self) -> None:
        """Send queued spans for a bounded time; the SDK's own limit is half a minute."""
        ending = threading.Thread(target=self._processor.shutdown, name="otlp-end", daemon=True)
        ending.start()
        ending.join(CLOSE_TIMEOUT_S)

    def _attempt(self, trace: Trace, attempt: TraceAttempt, context: Context) -> None:
        span = self._tracer.start_span(
            f"attempt {attempt.node_id}",
            context=context,
            kind=SpanKind.CLIENT,
            attributes={
                "edgeforge.node": attempt.node_id,
                "edgeforge.outcome": str(attempt.outcome),
                "edgeforge.purpose": str(attempt.purpose),
                "edgeforge.budget_left_ms": attempt.budget_left_ms,
                "edgeforge.candidates": len(attempt.candidates) + attempt.candidates_left_out,
                "edgeforge.candidates_fitting": sum(one.fits for one in attempt.candidates),
            },
            start_time=_unix_ns(trace, attempt.began_ms),
        )
        if attempt.outcome.is_fault:
            span.set_status(Status(StatusCode.ERROR, attempt.summary))
        span.end(_unix_ns(trace, attempt.began_ms + attempt.took_ms))


def request_attributes(trace: Trace) -> dict[str, AttributeValue]:
    """Return the attributes of a request's own span."""
    attributes: dict[str, AttributeValue] = {
        gen_ai.GEN_AI_OPERATION_NAME: _operation(trace),
        gen_ai.GEN_AI_PROVIDER_NAME: PROVIDER,
        gen_ai.GEN_AI_REQUEST_MODEL: trace.deployment,
        gen_ai.GEN_AI_RESPONSE_MODEL: trace.model,
        gen_ai.GEN_AI_USAGE_INPUT_TOKENS: trace.usage.prompt_tokens,
        gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS: trace.usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": trace.usage.cached_tokens,
        "gen_ai.request.stream": trace.stream,
        HTTP_RESPONSE_STATUS_CODE: trace.status,
        URL_PATH: trace.path,
        "edgeforge.ingress.node": trace.ingress_node_id,
        "edgeforge.ingress.pop": trace.ingress_pop_id,
        "edgeforge.node": trace.node_id,
        "edgeforge.pop": trace.pop_id,
        "edgeforge.account": trace.account,
        "edgeforge.tier.serving": trace.serving_tier,
        "edgeforge.tier.billing": trace.billing_tier,
        "edgeforge.budget_ms": trace.budget_ms,
        "edgeforge.last_mile_ms": trace.last_mile_ms,
        "edgeforge.predicted_ttft_ms_p99": trace.predicted_ttft_ms_p99,
        "edgeforge.predicted_miss": trace.predicted_miss,
        "edgeforge.missed": trace.missed,
        "edgeforge.client_gone": trace.client_gone,
        "edgeforge.clock_jumped": trace.clock_jumped,
        "edgeforge.cost.prompt_nano_usd": trace.cost.prompt_nano_usd,
        "edgeforge.cost.cached_nano_usd": trace.cost.cached_nano_usd,
        "edgeforge.cost.completion_nano_usd": trace.cost.completion_nano_usd,
        "edgeforge.price_card_version": trace.card_version,
    }
    if trace.first_token_ms is not None:
        pace = token_pace(trace)
        # The conventions' unit is seconds.
        attributes["gen_ai.response.time_to_first_chunk"] = trace.first_token_ms / 1_000.0
        attributes["edgeforge.tpot_ms_p50"] = pace.tpot_ms_p50
        attributes["edgeforge.tpot_ms_p99"] = pace.tpot_ms_p99
    if _failed(trace):
        attributes[ERROR_TYPE] = str(trace.status or "_OTHER")
    attributes |= {f"edgeforge.part.{part.name}_ms": part.took_ms for part in waterfall(trace)}
    return {name: value for name, value in attributes.items() if value != ""}


def read_headers(path: str) -> dict[str, str]:
    """Return the headers in ``path``, one ``name: value`` a line. Raises: ConfigInvalid."""
    if not path:
        return {}
    key = "telemetry.otlp_headers_file"
    try:
        if Path(path).stat().st_mode & 0o077:
            raise ConfigInvalid(
                [f"{key}: {path} is readable by others"], f"it holds secrets: chmod 600 {path}"
            )
        text = Path(path).read_text(encoding="utf-8")[:_MAX_HEADERS_BYTES]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid([f"{key}: cannot read {path}: {error}"]) from error
    headers = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon or not name.strip().isascii() or " " in name.strip() or not name.strip():
            raise ConfigInvalid([f"{key}: line {number} of {path} is not `name: value`"])
        headers[name.strip().lower()] = value.strip()
    return headers


class _GivenTraceIds(RandomIdGenerator):
    """Gives spans the trace id that the client received."""

    def __init__(self) -> None:
        self.next_trace_id = 0

    def generate_trace_id(self) -> int:
        return self.next_trace_id or super().generate_trace_id()


class _CountingExporter(SpanExporter):
    """Counts the spans that the receiver took. Called on the SDK's own thread."""

    def __init__(self, sender: SpanExporter, stats: ExportStats) -> None:
        self._sender = sender
        self._stats = stats
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._sender.export(spans)
        except Exception:  # neither the SDK's thread nor the count may stop
            _log.exception("spans could not be sent")
            result = SpanExportResult.FAILURE
        failed = result is not SpanExportResult.SUCCESS
        if failed:
            self._stats.failed_spans += len(spans)
        else:
            self._stats.exported_spans += len(spans)
        if failed is not self._failing:
            self._failing = failed
            _log.warning(
                "traces are %s the OTLP receiver", "not taken by" if failed else "taken by"
            )
        return result

    def shutdown(self) -> None:
        self._sender.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._sender.force_flush(timeout_millis)


def _operation(trace: Trace) -> str:
    api = FORMATS.get(trace.path)
    return api.operation if api is not None else "generate_content"


def _failed(trace: Trace) -> bool:
    """Return whether the request failed on the server's side; by the conventions 4xx did not."""
    return trace.status >= 500 or (bool(trace.error) and trace.status < 400)


def _unix_ns(trace: Trace, at_ms: float) -> int:
    return trace.began_unix_ms * 1_000_000 + round(at_ms * 1e6)
