"""Which latencies of a record are counted in sketches, and under which scopes."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protos.domain.usage_record import UsageRecord

#: Sketches are of this long: a minute each would be five times the rows, and no report needs it.
BUCKET_MS = 300_000


class SketchKind(enum.IntEnum):
    """What a sketch is of."""

    #: First token of streams, as the user felt it, in microseconds.
    FIRST_TOKEN = 1
    #: Tokens a second of streams, from the first to the last.
    PACE = 2
    #: What a request waited for an adapter, a swap or an engine, in microseconds.
    COLD = 3


class ScopeFamily(enum.StrEnum):
    """What a sketch's scope names, beside its SLA tier."""

    POP = "pop"
    ACCOUNT = "account"


#: family, SLA tier, name
Scope = tuple[str, str, str]
#: start of the bucket, scope, kind, bin
BinKey = tuple[int, Scope, int, int]


def scopes_of(sla_tier: str, ingress_pop: str, account: str) -> tuple[Scope, Scope]:
    """Return the scopes that a request counts in."""
    return (
        (ScopeFamily.POP.value, sla_tier, ingress_pop),
        (ScopeFamily.ACCOUNT.value, sla_tier, account),
    )


def latencies(record: UsageRecord) -> list[tuple[int, float]]:
    """Return the kinds and values that a record counts for. Hot."""
    values: list[tuple[int, float]] = []
    if record.stream and record.ttft_us > 0:
        values.append((1, record.ttft_us))
        if record.stream_us > 0 and record.completion_tokens > 1:
            values.append((2, (record.completion_tokens - 1) * 1e6 / record.stream_us))
    if record.cold_path and record.cold_us > 0:
        values.append((3, record.cold_us))
    return values


def count_bins(records: Iterable[UsageRecord], bin_of: Callable[[float], int]) -> dict[BinKey, int]:
    """Return how often each bin of each sketch occurs among ``records``. Hot."""
    counts: dict[BinKey, int] = {}
    for record in records:
        values = latencies(record)
        if not values:
            continue
        bucket = record.began_unix_ms - record.began_unix_ms % BUCKET_MS
        scopes = scopes_of(record.sla_tier, record.ingress_pop, record.account)
        for kind, value in values:
            number = bin_of(value)
            for scope in scopes:
                key = (bucket, scope, kind, number)
                counts[key] = counts.get(key, 0) + 1
    return counts
