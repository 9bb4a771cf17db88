"""Rows of sums and of sketches: what a transaction adds to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.core.usage_rollup import UsageDelta, booked_month, roll_up
from coordinator.core.usage_sketches import BUCKET_MS, SketchKind, count_bins, scopes_of
from protos.domain.usage_record import SUM_NAMES
from protos.wire.sketches import bin_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from coordinator.core.usage_sketches import BinKey, Scope
    from protos.domain.usage_counters import CounterSums
    from protos.domain.usage_record import UsageKey, UsageRecord

_ADD_SUMS = (
    f"INSERT INTO sums (minute_unix_ms, dimension_id, booked_month, {', '.join(SUM_NAMES)})"
    f" VALUES (?, ?, ?{', ?' * len(SUM_NAMES)})"
    " ON CONFLICT (minute_unix_ms, dimension_id, booked_month) DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in SUM_NAMES)
)
_ADD_BINS = (
    "INSERT INTO sketch_bins (bucket_unix_ms, scope_id, kind, bin, count) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (scope_id, kind, bucket_unix_ms, bin)"
    " DO UPDATE SET count = count + excluded.count"
)
_DIMENSIONS = (
    "account, deployment, model, sla_tier, tier_served, tier_billed, card_version,"
    " serving_pop, ingress_pop"
)
#: Numbers of dimensions and scopes that are kept in memory.
_MAX_CACHED = 200_000


class Rollups:
    """Adds to sums and sketches. Used in the thread that writes only."""

    def __init__(self) -> None:
        self._dimensions: dict[tuple[object, ...], int] = {}
        self._scopes: dict[Scope, int] = {}

    def forget(self) -> None:
        """Drop what may name rows of a transaction that was undone."""
        self._dimensions.clear()
        self._scopes.clear()

    def add(
        self,
        connection: sqlite3.Connection,
        records: Sequence[UsageRecord],
        counters: Sequence[CounterSums],
        closed_through_unix_ms: int,
    ) -> list[UsageDelta]:
        """Add ``records`` and ``counters``; return what was added to the sums."""
        deltas = roll_up(records, closed_through_unix_ms)
        deltas += [
            UsageDelta(
                one.key, one.sums, booked_month(one.key.minute_unix_ms, closed_through_unix_ms)
            )
            for one in counters
        ]
        if deltas:
            connection.executemany(
                _ADD_SUMS, [self._sums_row(connection, delta) for delta in deltas]
            )
        bins = count_bins(records, bin_of)
        for one in counters:
            _add_counted(bins, one)
        if bins:
            connection.executemany(
                _ADD_BINS,
                [
                    (bucket, self._scope_id(connection, scope), kind, number, count)
                    for (bucket, scope, kind, number), count in bins.items()
                ],
            )
        return deltas

    def _sums_row(self, connection: sqlite3.Connection, delta: UsageDelta) -> tuple[int, ...]:
        sums = delta.sums
        return (
            delta.key.minute_unix_ms,
            self._dimension_id(connection, delta.key),
            delta.booked_month,
            *[getattr(sums, name) for name in SUM_NAMES],
        )

    def _dimension_id(self, connection: sqlite3.Connection, key: UsageKey) -> int:
        values = (
            key.account,
            key.deployment,
            key.model,
            str(key.sla_tier),
            str(key.tier_served),
            str(key.tier_billed),
            key.card_version,
            key.serving_pop,
            key.ingress_pop,
        )
        found = self._dimensions.get(values)
        if found is None:
            if len(self._dimensions) >= _MAX_CACHED:
                self._dimensions.clear()
            found = self._dimensions[values] = _id_of(connection, "dimensions", _DIMENSIONS, values)
        return found

    def _scope_id(self, connection: sqlite3.Connection, scope: Scope) -> int:
        found = self._scopes.get(scope)
        if found is None:
            if len(self._scopes) >= _MAX_CACHED:
                self._scopes.clear()
            found = self._scopes[scope] = _id_of(
                connection, "sketch_scopes", "family, sla_tier, name", scope
            )
        return found


def _id_of(
    connection: sqlite3.Connection, table: str, columns: str, values: tuple[object, ...]
) -> int:
    where = " AND ".join(f"{column.strip()} = ?" for column in columns.split(","))
    found = connection.execute(f"SELECT id FROM {table} WHERE {where}", values).fetchone()
    if found is None:
        marks = ", ".join("?" * len(values))
        found = connection.execute(
            f"INSERT INTO {table} ({columns}) VALUES ({marks}) RETURNING id", values
        ).fetchone()
    return int(found[0])


def _add_counted(bins: dict[BinKey, int], counters: CounterSums) -> None:
    key = counters.key
    bucket = key.minute_unix_ms - key.minute_unix_ms % BUCKET_MS
    kinds = (
        (SketchKind.FIRST_TOKEN, counters.ttft),
        (SketchKind.PACE, counters.pace),
        (SketchKind.COLD, counters.cold),
    )
    for scope in scopes_of(str(key.sla_tier), key.ingress_pop, key.account):
        for kind, counted in kinds:
            for number, count in counted.items():
                at = (bucket, scope, int(kind), number)
                bins[at] = bins.get(at, 0) + count
