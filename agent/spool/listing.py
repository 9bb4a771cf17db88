"""Kept records as rows, for the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent.spool.kept import read_kept
from protos.domain.errors import InvalidRequest
from protos.wire.usage import decode_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from protos.domain.usage_record import UsageRecord


def kept_rows(folder: Path) -> Iterator[dict[str, object]]:
    """Yield one object a record, the oldest first; those that cannot be read say so."""
    for spool_id, seq, payload in read_kept(folder):
        try:
            record = decode_record(payload)
        except InvalidRequest:
            yield {"spool": spool_id, "seq": seq, "error": "written by a newer agent"}
            continue
        yield {"spool": spool_id, "seq": seq} | _as_json(record)


def _as_json(record: UsageRecord) -> dict[str, object]:
    began = datetime.fromtimestamp(record.began_unix_ms / 1_000, UTC)
    return {
        "trace_id": record.trace_id,
        "began": began.isoformat(timespec="milliseconds"),
        "account": record.account,
        "deployment": record.deployment,
        "status": record.status,
        "cause": record.cause.value,
        "prompt_tokens": record.prompt_tokens,
        "cached_tokens": record.cached_tokens,
        "completion_tokens": record.completion_tokens,
        "tier_served": record.tier_served.value if record.tier_served else "",
        "tier_billed": record.tier_billed.value if record.tier_billed else "",
        "nano_usd": record.nano_usd,
        "card": record.card_version,
        "zones": list(record.zones),
    }
