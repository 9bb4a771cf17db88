"""The record of one admitted request: what it used, what it costs and why.

Written by the agent that holds the client's connection, before the end of the answer is sent; the
coordinator counts each exactly once, by (node, spool, seq).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protos.domain.resources import SlaTier, Tier


class UsageCause(enum.StrEnum):
    """How a request ended. All but COMPLETE and the unbilled ones say why its end was not seen."""

    #: The whole answer was written to the client.
    COMPLETE = "complete"
    #: The client left; billed for what was made until then.
    CLIENT_GONE = "client_gone"
    #: The engine failed during the answer, and no other continued it.
    ENGINE_LOST = "engine_lost"
    #: The key, the account or the deployment was removed or stopped during the answer.
    REVOKED = "revoked"
    #: The agent was stopped, or waited as long as one may.
    CUT_SHORT = "cut_short"
    #: The agent ended between the record and the last byte; the client may have seen all of it.
    AGENT_LOST = "agent_lost"
    #: Nothing was generated; costs nothing.
    EMPTY = "empty"
    #: No target answered; costs nothing.
    FAILED = "failed"


class BillingReason(enum.StrEnum):
    """Why a request is billed by its tier."""

    #: The serving tier is the cheapest that was predicted in time.
    CHEAPEST = "cheapest"
    #: A cheaper tier was predicted in time; the serving one was our choice.
    CHEAPER_FITTED = "cheaper_fitted"
    #: No tier was predicted in time: the cheaper of serving and the SLA tier's default one.
    PREDICTED_MISS = "predicted_miss"
    #: It costs nothing.
    FREE = "free"


@dataclass(slots=True)
class UsageRecord:
    """One request; times are of the coordinator's clock. Not frozen because it is hot.

    ``cached_tokens`` are a part of ``prompt_tokens``. Rates and ``nano_usd`` are those of card
    ``card_version``, with the surcharges of the SLA tier and of residency: the sum of tokens times
    rates. ``ttft_us`` is as the user felt it, 0 without a first token; ``stream_us`` is from the
    first token to the last one.
    """

    trace_id: str
    began_unix_ms: int
    account: str
    key_id: str
    deployment: str
    model: str
    size_class: str
    sla_tier: SlaTier
    path: str
    stream: bool
    status: int
    cause: UsageCause
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    tier_served: Tier | None
    tier_billed: Tier | None
    billing_reason: BillingReason
    prompt_nano_usd_per_token: int
    cached_nano_usd_per_token: int
    completion_nano_usd_per_token: int
    nano_usd: int
    card_version: int
    serving_node: str
    serving_pop: str
    ingress_pop: str
    budget_ms: int
    ttft_us: int
    stream_us: int
    predicted_miss: bool
    #: The serving host counted more tokens than is possible: these are the ingress's own count.
    usage_exceeded: bool = False
    #: "adapter", "swap", "engine", or empty, and how long the answer waited for it.
    cold_path: str = ""
    cold_us: int = 0
    #: Zones that the request was bound to, sorted; empty: none. See ``protos.domain.residency``.
    zones: tuple[str, ...] = ()
    #: What the client asked for in ``service_tier``; empty: nothing.
    service_tier: str = ""


@dataclass(frozen=True, slots=True)
class UsageKey:
    """What usage is added up by. ``minute_unix_ms`` is the start of the minute, UTC."""

    minute_unix_ms: int
    account: str
    deployment: str
    model: str
    sla_tier: str
    tier_served: str
    tier_billed: str
    card_version: int
    serving_pop: str
    ingress_pop: str


@dataclass(slots=True)
class UsageSums:
    """Sums over the requests of one ``UsageKey``. ``seen`` ended COMPLETE."""

    requests: int = 0
    billed: int = 0
    seen: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    nano_usd: int = 0
    #: Streams that had a first token, and those of them that had it within their budget.
    streams: int = 0
    streams_in_time: int = 0
    predicted_misses: int = 0
    #: Valid requests that were refused for load, limits or lack of a replica: in no record.
    shed: int = 0

    def add(self, other: UsageSums) -> None:
        """Add ``other``."""
        for name in SUM_NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))


SUM_NAMES = (
    "requests",
    "billed",
    "seen",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "nano_usd",
    "streams",
    "streams_in_time",
    "predicted_misses",
    "shed",
)

_MINUTE_MS = 60_000


def key_of(record: UsageRecord) -> UsageKey:
    """Return what ``record`` is added up by. Hot."""
    return UsageKey(
        record.began_unix_ms - record.began_unix_ms % _MINUTE_MS,
        record.account,
        record.deployment,
        record.model,
        record.sla_tier,
        record.tier_served or "",
        record.tier_billed or "",
        record.card_version,
        record.serving_pop,
        record.ingress_pop,
    )


def add_record(sums: UsageSums, record: UsageRecord) -> None:
    """Add one request to ``sums``. Hot."""
    sums.requests += 1
    sums.billed += record.nano_usd > 0
    sums.seen += record.cause is UsageCause.COMPLETE
    sums.prompt_tokens += record.prompt_tokens
    sums.cached_tokens += record.cached_tokens
    sums.completion_tokens += record.completion_tokens
    sums.nano_usd += record.nano_usd
    if record.stream and record.ttft_us > 0:
        sums.streams += 1
        sums.streams_in_time += record.ttft_us <= record.budget_ms * 1_000
    sums.predicted_misses += record.predicted_miss


def script_fields(record: UsageRecord) -> dict[str, object]:
    """Return what every export of a request has under these names, in this order."""
    return {
        "trace_id": record.trace_id,
        "account": record.account,
        "deployment": record.deployment,
        "status": record.status,
        "cause": str(record.cause),
        "prompt_tokens": record.prompt_tokens,
        "cached_tokens": record.cached_tokens,
        "completion_tokens": record.completion_tokens,
        "tier_served": str(record.tier_served or ""),
        "tier_billed": str(record.tier_billed or ""),
        "nano_usd": record.nano_usd,
        "card": record.card_version,
    }
