"""Lines of usage: one record as it was counted, from the database or from Parquet."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import IO, TYPE_CHECKING, Any

from protos.domain.resources import SlaTier, Tier
from protos.domain.usage_record import BillingReason, UsageCause, UsageRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

#: arrived_minute, spool_id, seq: the order of records in the database.
RawKey = tuple[int, int, int]
BEFORE_ALL: RawKey = (-1, -1, -1)


@dataclass(slots=True)
class UsageLine:
    """A record and where it came from. ``record.began_unix_ms`` is the time it is counted at."""

    key: RawKey
    node: str
    spool: str
    record: UsageRecord
    clock_suspect: bool
    #: The record's own time.
    told_unix_ms: int


_RECORD_FIELDS = tuple(one.name for one in fields(UsageRecord))
_INTEGERS = ("arrived_minute", "spool_id", "seq", "told_unix_ms")
_READ: dict[str, Callable[[Any], object]] = {
    "sla_tier": SlaTier,
    "cause": UsageCause,
    "billing_reason": BillingReason,
    "tier_served": lambda text: Tier(text) if text else None,
    "tier_billed": lambda text: Tier(text) if text else None,
    "zones": tuple,
}
_ROWS_PER_STEP = 2_000


def _schema() -> pa.Schema:
    import pyarrow as pa  # takes 40 MB and a third of a second: needed once a day

    types = {"int": pa.int64(), "bool": pa.bool_(), "tuple[str, ...]": pa.list_(pa.string())}
    return pa.schema(
        [
            *(pa.field(name, pa.int64()) for name in _INTEGERS),
            pa.field("node", pa.string()),
            pa.field("spool", pa.string()),
            pa.field("clock_suspect", pa.bool_()),
            *(
                pa.field(one.name, types.get(str(one.type), pa.string()))
                for one in fields(UsageRecord)
            ),
        ]
    )


def to_parquet(lines: Sequence[UsageLine]) -> bytes:
    """Return a Parquet file, compressed with zstandard, one row for each line in their order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[object]] = {
        "arrived_minute": [one.key[0] for one in lines],
        "spool_id": [one.key[1] for one in lines],
        "seq": [one.key[2] for one in lines],
        "told_unix_ms": [one.told_unix_ms for one in lines],
        "node": [one.node for one in lines],
        "spool": [one.spool for one in lines],
        "clock_suspect": [one.clock_suspect for one in lines],
    }
    for name in _RECORD_FIELDS:
        columns[name] = [_written(getattr(one.record, name)) for one in lines]
    sink = io.BytesIO()
    pq.write_table(pa.table(columns, schema=_schema()), sink, compression="zstd")
    return sink.getvalue()


def from_parquet(opened: IO[bytes]) -> Iterator[list[UsageLine]]:
    """Yield the lines of a file, some at a time."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(opened)
    for rows in file.iter_batches(batch_size=_ROWS_PER_STEP):
        yield [_line(row) for row in rows.to_pylist()]


def _written(value: object) -> object:
    if isinstance(value, (UsageCause, BillingReason, SlaTier, Tier)):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _line(row: dict[str, Any]) -> UsageLine:
    values: dict[str, Any] = {
        name: _READ[name](row[name]) if name in _READ else row[name] for name in _RECORD_FIELDS
    }
    return UsageLine(
        key=(row["arrived_minute"], row["spool_id"], row["seq"]),
        node=row["node"],
        spool=row["spool"],
        record=UsageRecord(**values),
        clock_suspect=row["clock_suspect"],
        told_unix_ms=row["told_unix_ms"],
    )
