"""Routes about how the promises to the account were kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coordinator.api.customer.key_routes import MAX_UNIX_MS
from coordinator.api.customer.route import Call, Model, Query, Route
from coordinator.core.months import text_of_month
from coordinator.operations.acts import Act

UnixMs = Annotated[int, Field(ge=0, le=MAX_UNIX_MS)]


class SlaQuery(Query):
    """Of which time, in steps of 5 minutes. ``until_unix_ms`` is not included."""

    from_unix_ms: UnixMs = Field(0, description="0: since the start of the month.")
    until_unix_ms: UnixMs = Field(0, description="0: now.")


class SlaLineAnswer(Model):
    """One SLA tier. Figures are null where there was no stream."""

    sla_tier: str
    requests: int
    streams: int
    streams_in_time: int = Field(description="First token within the budget.")
    predicted_misses: int
    shed: int = Field(description="Refused for want of capacity.")
    first_token_ms_p50: float | None
    first_token_ms_p99: float | None
    tokens_per_s_p50: float | None = Field(description="After the first token.")
    tokens_per_s_p1: float | None = Field(description="99 % of streams are as fast, or faster.")
    promise_percent: int = Field(description="Of streams that are to be in time.")
    kept: bool


class SlaCreditAnswer(Model):
    """What a month owes for one SLA tier; of the present one so far."""

    month: str
    sla_tier: str
    streams: int
    streams_in_time: int
    promise_percent: int
    charged_nano_usd: int
    credit_nano_usd: int = Field(description="On the invoice of that month; 0: it was kept.")


class SlaAnswer(Model):
    """How the promises were kept. Credits are of the whole months that the time touches."""

    from_unix_ms: int
    until_unix_ms: int
    lines: list[SlaLineAnswer]
    credits: list[SlaCreditAnswer]


async def _report(call: Call) -> SlaAnswer:
    asked = call.asked(SlaQuery)
    found = await call.operations.reports.sla(call.actor, asked.from_unix_ms, asked.until_unix_ms)
    return SlaAnswer(
        from_unix_ms=found.from_unix_ms,
        until_unix_ms=found.until_unix_ms,
        lines=[
            SlaLineAnswer(
                sla_tier=one.sla_tier,
                requests=one.sums.requests,
                streams=one.sums.streams,
                streams_in_time=one.sums.streams_in_time,
                predicted_misses=one.sums.predicted_misses,
                shed=one.sums.shed,
                first_token_ms_p50=one.first_token_ms_p50,
                first_token_ms_p99=one.first_token_ms_p99,
                tokens_per_s_p50=one.tokens_per_s_p50,
                tokens_per_s_p1=one.tokens_per_s_p1,
                promise_percent=one.promise_percent,
                kept=one.kept,
            )
            for one in found.lines
        ],
        credits=[
            SlaCreditAnswer(
                month=text_of_month(one.month),
                sla_tier=one.credit.sla_tier,
                streams=one.credit.streams,
                streams_in_time=one.credit.streams_in_time,
                promise_percent=one.credit.promise_percent,
                charged_nano_usd=one.credit.charged_nano_usd,
                credit_nano_usd=one.credit.nano_usd,
            )
            for one in found.credits
        ],
    )


ROUTES = (
    Route(
        "GET",
        "/v1/sla",
        "report_sla",
        "Report how the promises were kept: first token, pace, share in time, credits owed.",
        _report,
        Act.REPORT_SLA,
        SlaAnswer,
        query=SlaQuery,
    ),
)
