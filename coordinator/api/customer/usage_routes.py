"""Routes about what was used, and what it would have cost under other budgets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Literal

import orjson
from pydantic import Field

from coordinator.api.customer.deployment_routes import DEPLOYMENT, found_deployment
from coordinator.api.customer.key_routes import MAX_UNIX_MS
from coordinator.api.customer.route import Call, Model, Query, Route, StreamedDownload
from coordinator.operations.acts import Act
from coordinator.usage.exports import LineFilter
from coordinator.usage.reports import GroupBy, UsageQuery
from protos.domain.errors import InvalidRequest
from protos.domain.quote import MAX_BUDGETS
from protos.domain.usage_record import script_fields

if TYPE_CHECKING:
    from coordinator.usage.lines import UsageLine

UnixMs = Annotated[int, Field(ge=0, le=MAX_UNIX_MS)]
_LINES = "application/x-ndjson"
#: A note of a quote that names nodes.
_NAMES_NODES = " agents could not be asked"


class UsageSumsQuery(Query):
    """Which usage is added up. ``until_unix_ms`` is not included."""

    deployment: str = Field("", max_length=128, description="In full; empty: all.")
    from_unix_ms: UnixMs = 0
    until_unix_ms: UnixMs = Field(MAX_UNIX_MS)
    by: Literal["day", "deployment", "tier"] = "day"


class UsageLinesQuery(Query):
    """Whose lines are sent. ``until_unix_ms`` is not included."""

    deployment: str = Field("", max_length=128, description="In full; empty: all.")
    from_unix_ms: UnixMs = 0
    until_unix_ms: UnixMs = Field(MAX_UNIX_MS)


class UsageRowAnswer(Model):
    """The sums of one group. ``billed``: requests with a price; ``seen``: ended complete."""

    group: str
    requests: int
    billed: int
    seen: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    nano_usd: int
    streams: int
    streams_in_time: int
    predicted_misses: int


class UsageAnswer(Model):
    """Sums by group, in the order of the groups."""

    items: list[UsageRowAnswer]


class QuoteQuery(Query):
    """Under which budgets the recent requests are placed again."""

    ttft_ms: str = Field(
        "",
        max_length=200,
        pattern=r"^([0-9]{1,6}(,[0-9]{1,6})*)?$",
        description=f"Up to {MAX_BUDGETS}, with commas: 80,150,300. Empty: around the present one.",
    )
    hours: int = Field(0, ge=0, le=744, description="0: all that is held.")


class QuoteLineAnswer(Model):
    """All requests under one budget. ``kept_ratio`` null: there was no stream."""

    budget_ms: float
    requests: int
    streams: int
    kept_ratio: float | None = Field(description="Share of first tokens that would be in time.")
    observed_ratio: float | None = Field(description="Of it, what happened and is no estimate.")
    predicted_misses: int
    refused: int
    total_nano_usd: int
    tokens: int
    nano_usd_per_million_tokens: int
    typical_request_nano_usd: int
    billed_by_tier: dict[str, int]


class QuoteAnswer(Model):
    """What the recent requests of a deployment would have cost."""

    deployment: str
    card_version: int
    from_unix_ms: int
    to_unix_ms: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    lines: list[QuoteLineAnswer]
    notes: list[str]


async def _sums(call: Call) -> UsageAnswer:
    asked = call.asked(UsageSumsQuery)
    query = UsageQuery(
        account=call.actor.account_id,
        deployment=asked.deployment,
        from_unix_ms=asked.from_unix_ms,
        until_unix_ms=asked.until_unix_ms,
        by=GroupBy(asked.by),
    )
    rows = await call.operations.usage.sums(call.actor, query)
    own = f"{call.actor.account_id} "
    return UsageAnswer(
        items=[
            UsageRowAnswer(
                group=row.group.removeprefix(own) if asked.by == "deployment" else row.group,
                requests=row.sums.requests,
                billed=row.sums.billed,
                seen=row.sums.seen,
                prompt_tokens=row.sums.prompt_tokens,
                cached_tokens=row.sums.cached_tokens,
                completion_tokens=row.sums.completion_tokens,
                nano_usd=row.sums.nano_usd,
                streams=row.sums.streams,
                streams_in_time=row.sums.streams_in_time,
                predicted_misses=row.sums.predicted_misses,
            )
            for row in rows
        ]
    )


async def _export(call: Call) -> StreamedDownload:
    asked = call.asked(UsageLinesQuery)
    wanted = LineFilter(
        account=call.actor.account_id,
        deployment=asked.deployment,
        from_unix_ms=asked.from_unix_ms,
        until_unix_ms=asked.until_unix_ms,
    )
    lines = await call.operations.usage.export(call.actor, wanted)

    async def chunks() -> AsyncIterator[bytes]:
        async for some in lines:
            yield b"".join(map(_line, some))

    return StreamedDownload(chunks(), _LINES, "usage.ndjson")


def _line(line: UsageLine) -> bytes:
    record = line.record
    content = script_fields(record) | {
        "began_unix_ms": record.began_unix_ms,
        "key_id": record.key_id,
        "model": record.model,
        "path": record.path,
    }
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)


async def _quote(call: Call) -> QuoteAnswer:
    asked, present = call.asked(QuoteQuery), await found_deployment(call)
    budgets = [float(one) for one in asked.ttft_ms.split(",") if one]
    if len(budgets) > MAX_BUDGETS:
        raise InvalidRequest(f"{len(budgets)} budgets are more than {MAX_BUDGETS}", "ask for fewer")
    quoted = await call.operations.quotes.quote(
        call.actor, present.deployment.name, budgets, asked.hours
    )
    return QuoteAnswer(
        deployment=quoted.deployment.name,
        card_version=quoted.card_version,
        from_unix_ms=quoted.from_unix_ms,
        to_unix_ms=quoted.to_unix_ms,
        prompt_tokens=quoted.usage.prompt_tokens,
        cached_tokens=quoted.usage.cached_tokens,
        completion_tokens=quoted.usage.completion_tokens,
        lines=[
            QuoteLineAnswer(
                budget_ms=one.budget_ms,
                requests=one.requests,
                streams=one.streams,
                kept_ratio=one.kept_ratio if one.streams else None,
                observed_ratio=one.observed_ratio if one.streams else None,
                predicted_misses=one.predicted_misses,
                refused=one.refused,
                total_nano_usd=one.total_nano_usd,
                tokens=one.tokens,
                nano_usd_per_million_tokens=one.nano_usd_per_million_tokens,
                typical_request_nano_usd=one.median_nano_usd,
                billed_by_tier=dict(one.billed_by_tier),
            )
            for one in quoted.lines
        ],
        notes=[
            "some agents could not be asked" if _NAMES_NODES in note else note
            for note in quoted.notes
        ],
    )


ROUTES = (
    Route(
        "GET",
        "/v1/usage",
        "show_usage",
        "Add up what was used, by day, deployment or tier.",
        _sums,
        Act.USAGE_READ,
        UsageAnswer,
        query=UsageSumsQuery,
    ),
    Route(
        "GET",
        "/v1/usage/lines",
        "export_usage",
        "Send one line of JSON for each request.",
        _export,
        Act.USAGE_EXPORT,
        query=UsageLinesQuery,
        downloads=(_LINES,),
    ),
    Route(
        "GET",
        "/v1/deployments/{name}/quote",
        "quote_deployment",
        "Show what recent requests would have cost, and which would have been in time.",
        _quote,
        Act.PRICE_QUOTE,
        QuoteAnswer,
        query=QuoteQuery,
        params={"name": DEPLOYMENT},
    ),
)
