"""Sums and sketches by day: what reports over months read instead of every minute.

Triggers keep them, in the transaction that changes the rows of a minute, whichever part does that.
"""

from __future__ import annotations

from coordinator.usage.migration import Migration
from protos.domain.usage_record import SUM_NAMES

DAY_MS = 86_400_000

_COLUMNS = f"day_unix_ms, dimension_id, booked_month, {', '.join(SUM_NAMES)}"
_ADDS = " ON CONFLICT (day_unix_ms, dimension_id, booked_month) DO UPDATE SET " + ", ".join(
    f"{name} = {name} + excluded.{name}" for name in SUM_NAMES
)
_KEY = f"NEW.minute_unix_ms - NEW.minute_unix_ms % {DAY_MS}, NEW.dimension_id, NEW.booked_month"

_BINS = (
    "INSERT INTO day_bins (scope_id, kind, day_unix_ms, bin, count) VALUES (NEW.scope_id, NEW.kind,"
    f" NEW.bucket_unix_ms - NEW.bucket_unix_ms % {DAY_MS}, NEW.bin,"
)
_ADDS_BINS = (
    " ON CONFLICT (scope_id, kind, day_unix_ms, bin) DO UPDATE SET count = count + excluded.count"
)

DAY_SUMS_MIGRATIONS = (
    Migration(
        "day_sums_0001",
        (
            "CREATE TABLE day_sums (day_unix_ms INTEGER NOT NULL, dimension_id INTEGER NOT NULL,"
            " booked_month INTEGER NOT NULL,"
            f" {', '.join(f'{name} INTEGER NOT NULL' for name in SUM_NAMES)},"
            " PRIMARY KEY (day_unix_ms, dimension_id, booked_month)) STRICT, WITHOUT ROWID",
            "CREATE INDEX day_sums_by_month ON day_sums (booked_month)",
            f"INSERT INTO day_sums ({_COLUMNS})"
            f" SELECT minute_unix_ms - minute_unix_ms % {DAY_MS} AS day, dimension_id,"
            f" booked_month, {', '.join(f'sum({name})' for name in SUM_NAMES)} FROM sums"
            " GROUP BY day, dimension_id, booked_month",
            "CREATE TRIGGER day_sums_inserted AFTER INSERT ON sums BEGIN"
            f" INSERT INTO day_sums ({_COLUMNS}) VALUES ({_KEY},"
            f" {', '.join(f'NEW.{name}' for name in SUM_NAMES)}){_ADDS}; END",
            "CREATE TRIGGER day_sums_updated AFTER UPDATE ON sums BEGIN"
            f" INSERT INTO day_sums ({_COLUMNS}) VALUES ({_KEY},"
            f" {', '.join(f'NEW.{name} - OLD.{name}' for name in SUM_NAMES)}){_ADDS}; END",
        ),
    ),
    Migration(
        "day_bins_0001",
        (
            "CREATE TABLE day_bins (scope_id INTEGER NOT NULL, kind INTEGER NOT NULL,"
            " day_unix_ms INTEGER NOT NULL, bin INTEGER NOT NULL, count INTEGER NOT NULL,"
            " PRIMARY KEY (scope_id, kind, day_unix_ms, bin)) STRICT, WITHOUT ROWID",
            "INSERT INTO day_bins (scope_id, kind, day_unix_ms, bin, count)"
            f" SELECT scope_id, kind, bucket_unix_ms - bucket_unix_ms % {DAY_MS} AS day, bin,"
            " sum(count) FROM sketch_bins GROUP BY scope_id, kind, day, bin",
            f"CREATE TRIGGER day_bins_inserted AFTER INSERT ON sketch_bins BEGIN {_BINS}"
            f" NEW.count){_ADDS_BINS}; END",
            f"CREATE TRIGGER day_bins_updated AFTER UPDATE ON sketch_bins BEGIN {_BINS}"
            f" NEW.count - OLD.count){_ADDS_BINS}; END",
        ),
    ),
)
