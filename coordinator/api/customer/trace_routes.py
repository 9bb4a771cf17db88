"""Routes about traces of the account's own requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from coordinator.api.customer.route import Call, Model, Param, Query, Route
from coordinator.operations.acts import Act
from coordinator.operations.agents import TraceFilter, TracePlace
from protos.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from coordinator.operations.agents import TraceLine

TRACE_ID = Param(
    r"[0-9a-f]{32}",
    "The x-edgeforge-trace-id of an answer.",
    "00112233445566778899aabbccddeeff",
)
MAX_TRACES = 100


class TraceQuery(Query):
    """Which traces are asked for."""

    deployment: str = Field("", max_length=128, description="Empty: all of the account.")
    missed: Literal["true", "false"] = Field(
        "false", description="Only those that missed their budget, or were predicted to."
    )
    order: Literal["newest", "slowest"] = Field(
        "newest", description="slowest: streams alone, by their first token."
    )
    limit: int = Field(20, ge=1, le=MAX_TRACES)
    cursor: str = Field("", max_length=100, description="`next` of the page before; empty: first.")


class TraceLineAnswer(Model):
    """One request in a list."""

    trace_id: str
    began_unix_ms: int
    deployment: str
    serving_tier: str
    billing_tier: str
    status: int
    budget_ms: float
    felt_ttft_ms: float | None
    ended_ms: float
    missed: bool
    predicted_miss: bool
    client_gone: bool
    cost_nano_usd: int


class TracePage(Model):
    """Traces in order. ``complete``: every node could be asked."""

    items: list[TraceLineAnswer]
    next: str
    complete: bool


class TraceAttemptAnswer(Model):
    """One attempt at a request."""

    purpose: str
    outcome: str
    began_ms: float
    took_ms: float


class TraceAnswer(Model):
    """One request: moments in milliseconds from its first byte; null: not reached."""

    trace_id: str
    began_unix_ms: int
    path: str
    deployment: str
    model: str
    stream: bool
    status: int
    error: str
    client_gone: bool
    budget_ms: float
    last_mile_ms: float
    read_ms: float
    authed_ms: float | None
    placed_ms: float | None
    asked_ms: float | None
    first_token_ms: float | None
    ended_ms: float
    pop_id: str
    serving_tier: str
    billing_tier: str
    billing_reason: str = Field(description="Why that tier is billed.")
    predicted_miss: bool
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_nano_usd: int
    card_version: int
    attempts: list[TraceAttemptAnswer]


def _line(one: TraceLine) -> TraceLineAnswer:
    return TraceLineAnswer(
        trace_id=one.trace_id,
        began_unix_ms=one.began_unix_ms,
        deployment=one.deployment,
        serving_tier=one.serving_tier,
        billing_tier=one.billing_tier,
        status=one.status,
        budget_ms=one.budget_ms,
        felt_ttft_ms=one.felt_ttft_ms,
        ended_ms=one.ended_ms,
        missed=one.missed,
        predicted_miss=one.predicted_miss,
        client_gone=one.client_gone,
        cost_nano_usd=one.cost_nano_usd,
    )


async def _list(call: Call) -> TracePage:
    asked = call.asked(TraceQuery)
    page = await call.operations.traces.list_page(
        call.actor,
        TraceFilter(
            deployment=asked.deployment,
            missed=asked.missed == "true",
            slowest=asked.order == "slowest",
            limit=asked.limit,
            after=_place(asked.cursor),
        ),
    )
    after = page.after
    return TracePage(
        items=[_line(one) for one in page.traces],
        next="" if after is None else f"{after.value!r}-{after.trace_id}",
        complete=not page.unsearched,
    )


def _place(cursor: str) -> TracePlace | None:
    """Raises: InvalidRequest."""
    if not cursor:
        return None
    value, _, trace_id = cursor.rpartition("-")
    try:
        if len(trace_id) == 32:
            return TracePlace(float(value), trace_id)
    except ValueError:
        pass
    raise InvalidRequest("this cursor is not one of ours", "use `next` of the page before")


async def _show(call: Call) -> TraceAnswer:
    found = await call.operations.traces.find(call.actor, call.params["trace_id"])
    return TraceAnswer(
        trace_id=found.trace_id,
        began_unix_ms=found.began_unix_ms,
        path=found.path,
        deployment=found.deployment,
        model=found.model,
        stream=found.stream,
        status=found.status,
        error=found.error,
        client_gone=found.client_gone,
        budget_ms=found.budget_ms,
        last_mile_ms=found.last_mile_ms,
        read_ms=found.read_ms,
        authed_ms=found.authed_ms,
        placed_ms=found.placed_ms,
        asked_ms=found.asked_ms,
        first_token_ms=found.first_token_ms,
        ended_ms=found.ended_ms,
        pop_id=found.pop_id,
        serving_tier=found.serving_tier,
        billing_tier=found.billing_tier,
        billing_reason=found.billing_reason,
        predicted_miss=found.predicted_miss,
        prompt_tokens=found.usage.prompt_tokens,
        cached_tokens=found.usage.cached_tokens,
        completion_tokens=found.usage.completion_tokens,
        cost_nano_usd=found.cost.total_nano_usd,
        card_version=found.card_version,
        attempts=[
            TraceAttemptAnswer(
                purpose=one.purpose.value,
                outcome=one.outcome.value,
                began_ms=one.began_ms,
                took_ms=one.took_ms,
            )
            for one in found.attempts
        ],
    )


ROUTES = (
    Route(
        "GET",
        "/v1/traces",
        "list_traces",
        "List traces of the account's requests.",
        _list,
        Act.TRACE_LIST,
        TracePage,
        query=TraceQuery,
    ),
    Route(
        "GET",
        "/v1/traces/{trace_id}",
        "show_trace",
        "Show where the time and the cost of one request went.",
        _show,
        Act.TRACE_SHOW,
        TraceAnswer,
        params={"trace_id": TRACE_ID},
    ),
)
