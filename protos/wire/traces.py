"""Conversion of traces to and from the messages that agents store and send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protos.domain.pricing import Cost, Usage
from protos.domain.trace import (
    AttemptOutcome,
    AttemptPurpose,
    FarTimes,
    Trace,
    TraceAttempt,
    TraceCandidate,
    TraceColdStart,
)
from protos.v1 import trace_pb2
from protos.wire.enums import TIER_TO_WIRE, tier_from_wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MAX_UINT32 = (1 << 32) - 1
#: Fields with the same name and type on both sides.
_PLAIN = (
    "trace_id",
    "ingress_node_id",
    "ingress_pop_id",
    "began_unix_ms",
    "path",
    "deployment",
    "account",
    "model",
    "stream",
    "status",
    "error",
    "client_gone",
    "clock_jumped",
    "budget_ms",
    "last_mile_ms",
    "read_ms",
    "ended_ms",
    "tokens_left_out",
    "node_id",
    "pop_id",
    "serving_tier",
    "billing_tier",
    "predicted_miss",
    "predicted_ttft_ms_p99",
    "client_request_id",
    "usage_exceeded",
    "withheld",
    "billing_reason",
    "cause",
)
#: Moments that a request may not have reached.
_MOMENTS = ("authed_ms", "placed_ms", "asked_ms", "first_token_ms")


def trace_to_wire(trace: Trace) -> trace_pb2.Trace:
    message = trace_pb2.Trace()
    for name in _PLAIN:
        setattr(message, name, getattr(trace, name))
    for name in _MOMENTS:
        if (moment := getattr(trace, name)) is not None:
            setattr(message, name, moment)
    if trace.far is not None:
        message.far.CopyFrom(
            trace_pb2.TraceFarTimes(
                admission_ms=trace.far.admission_ms,
                queue_ms=trace.far.queue_ms,
                engine_ms=trace.far.engine_ms,
                load_ms=trace.far.load_ms,
            )
        )
    if (cold := trace.cold_start) is not None:
        message.cold_start.CopyFrom(
            trace_pb2.TraceColdStart(
                path=cold.path,
                residency=cold.residency,
                weights_bytes=cold.weights_bytes,
                took_ms=cold.took_ms,
                pull_ms=cold.pull_ms,
            )
        )
    message.zones.extend(trace.zones)
    gaps = trace.token_gaps_us
    if gaps and max(gaps) > _MAX_UINT32:
        gaps = tuple(min(gap, _MAX_UINT32) for gap in gaps)
    message.token_gaps_us.extend(gaps)
    message.attempts.extend(_attempt_to_wire(attempt) for attempt in trace.attempts)
    message.tokens.CopyFrom(
        trace_pb2.TraceTokens(
            prompt=trace.usage.prompt_tokens,
            cached=trace.usage.cached_tokens,
            completion=trace.usage.completion_tokens,
        )
    )
    message.cost.CopyFrom(
        trace_pb2.TraceCost(
            prompt_nano_usd=trace.cost.prompt_nano_usd,
            cached_nano_usd=trace.cost.cached_nano_usd,
            completion_nano_usd=trace.cost.completion_nano_usd,
            card_version=trace.card_version,
        )
    )
    return message


def trace_from_wire(message: trace_pb2.Trace) -> Trace:
    """Raises: InvalidRequest for an unknown tier."""
    plain: dict[str, Any] = {name: getattr(message, name) for name in _PLAIN}
    moments: dict[str, Any] = {
        name: getattr(message, name) if message.HasField(name) else None  # type: ignore[arg-type]
        for name in _MOMENTS
    }
    far, tokens, cost = message.far, message.tokens, message.cost
    return Trace(
        **plain,
        **moments,
        far=FarTimes(far.admission_ms, far.queue_ms, far.engine_ms, far.load_ms)
        if message.HasField("far")
        else None,
        zones=tuple(message.zones),
        token_gaps_us=tuple(message.token_gaps_us),
        attempts=tuple(_attempt_from_wire(attempt) for attempt in message.attempts),
        usage=Usage(tokens.prompt, tokens.cached, tokens.completion),
        cost=Cost(cost.prompt_nano_usd, cost.cached_nano_usd, cost.completion_nano_usd),
        card_version=cost.card_version,
        cold_start=_cold_start_from_wire(message.cold_start)
        if message.HasField("cold_start")
        else None,
    )


def _cold_start_from_wire(cold: trace_pb2.TraceColdStart) -> TraceColdStart:
    return TraceColdStart(cold.path, cold.residency, cold.weights_bytes, cold.took_ms, cold.pull_ms)


def summary_to_wire(trace: Trace) -> trace_pb2.TraceSummary:
    """Return the summary of ``trace`` for a list."""
    return trace_pb2.TraceSummary(
        trace_id=trace.trace_id,
        ingress_node_id=trace.ingress_node_id,
        began_unix_ms=trace.began_unix_ms,
        deployment=trace.deployment,
        node_id=trace.node_id,
        serving_tier=trace.serving_tier,
        billing_tier=trace.billing_tier,
        status=trace.status,
        budget_ms=trace.budget_ms,
        felt_ttft_ms=trace.felt_ttft_ms,
        ended_ms=trace.ended_ms,
        missed=trace.missed,
        predicted_miss=trace.predicted_miss,
        cost_nano_usd=trace.cost.total_nano_usd,
        clock_jumped=trace.clock_jumped,
        client_gone=trace.client_gone,
        zones=trace.zones,
    )


def place_in_order(summary: trace_pb2.TraceSummary, order: int) -> tuple[float, str]:
    """Return the sort key of a trace in a list: greater comes first; ids break ties."""
    if order == trace_pb2.TRACE_ORDER_SLOWEST:
        felt_ms = summary.felt_ttft_ms if summary.HasField("felt_ttft_ms") else -1.0
        return felt_ms, summary.trace_id
    return float(summary.began_unix_ms), summary.trace_id


def _attempt_to_wire(attempt: TraceAttempt) -> trace_pb2.TraceAttempt:
    return trace_pb2.TraceAttempt(
        node_id=attempt.node_id,
        outcome=attempt.outcome,
        purpose=attempt.purpose,
        detail=attempt.detail,
        began_ms=attempt.began_ms,
        took_ms=attempt.took_ms,
        budget_left_ms=attempt.budget_left_ms,
        predicted_miss=attempt.predicted_miss,
        candidates=_candidates_to_wire(attempt.candidates),
        candidates_left_out=attempt.candidates_left_out,
    )


def _candidates_to_wire(candidates: Sequence[TraceCandidate]) -> list[trace_pb2.TraceCandidate]:
    """Names of terms are sent only where they differ from the candidate before."""
    messages = []
    sent: tuple[str, ...] = ()
    for one in candidates:
        messages.append(
            trace_pb2.TraceCandidate(
                node_id=one.node_id,
                pop_id=one.pop_id,
                tier=TIER_TO_WIRE[one.tier],
                fits=one.fits,
                chosen=one.chosen,
                ttft_ms_p50=one.ttft_ms_p50,
                ttft_ms_p99=one.ttft_ms_p99,
                term_values_ms=one.term_values_ms,
                term_names=() if one.term_names == sent else one.term_names,
                price_nano_usd_per_1k_tokens=one.price_nano_usd_per_1k_tokens,
                headroom=one.headroom,
            )
        )
        sent = one.term_names
    return messages


def _candidates_from_wire(
    messages: Iterable[trace_pb2.TraceCandidate],
) -> tuple[TraceCandidate, ...]:
    candidates = []
    names: tuple[str, ...] = ()
    for one in messages:
        names = tuple(one.term_names) or names
        candidates.append(
            TraceCandidate(
                node_id=one.node_id,
                pop_id=one.pop_id,
                tier=tier_from_wire(one.tier),
                fits=one.fits,
                chosen=one.chosen,
                ttft_ms_p50=one.ttft_ms_p50,
                ttft_ms_p99=one.ttft_ms_p99,
                term_names=names,
                term_values_ms=tuple(one.term_values_ms),
                price_nano_usd_per_1k_tokens=one.price_nano_usd_per_1k_tokens,
                headroom=one.headroom,
            )
        )
    return tuple(candidates)


def _attempt_from_wire(message: trace_pb2.TraceAttempt) -> TraceAttempt:
    outcome, detail = _outcome_from_wire(message)
    purposes = AttemptPurpose.__members__.values()
    purpose = message.purpose if message.purpose in purposes else AttemptPurpose.SERVE
    return TraceAttempt(
        node_id=message.node_id,
        outcome=outcome,
        purpose=AttemptPurpose(purpose),
        detail=detail,
        began_ms=message.began_ms,
        took_ms=message.took_ms,
        budget_left_ms=message.budget_left_ms,
        predicted_miss=message.predicted_miss,
        candidates=_candidates_from_wire(message.candidates),
        candidates_left_out=message.candidates_left_out,
    )


def _outcome_from_wire(message: trace_pb2.TraceAttempt) -> tuple[AttemptOutcome, str]:
    """Return outcome and detail; an outcome that this version does not know is a failure's text."""
    try:
        return AttemptOutcome(message.outcome), message.detail
    except ValueError:
        return AttemptOutcome.FAILED, message.detail or message.outcome
