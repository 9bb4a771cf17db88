"""The tables of usage, as migrations."""

from __future__ import annotations

from coordinator.usage.migration import Migration
from protos.domain.usage_record import SUM_NAMES

_SUMS = ", ".join(f"{name} INTEGER NOT NULL" for name in SUM_NAMES)

USAGE_MIGRATIONS = (
    Migration(
        "usage_0001",
        (
            "CREATE TABLE probe (id INTEGER PRIMARY KEY, filler TEXT NOT NULL) STRICT",
            "CREATE TABLE facts (fact TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
            # Everything up to watermark is committed; newest_unix_ms: latest end of a request;
            # gap_allowed: after a backup was restored, once; see group.py.
            "CREATE TABLE spools (id INTEGER PRIMARY KEY, node TEXT NOT NULL,"
            " spool TEXT NOT NULL, watermark INTEGER NOT NULL, newest_unix_ms INTEGER NOT NULL,"
            " began_unix_ms INTEGER NOT NULL, conflicts INTEGER NOT NULL,"
            " gap_allowed INTEGER NOT NULL, UNIQUE (node, spool)) STRICT",
            "CREATE TABLE restored (at_unix_ms INTEGER PRIMARY KEY) STRICT",
            # In the order of arrival, so that inserts append and a day is one range.
            "CREATE TABLE raw (arrived_minute INTEGER NOT NULL, spool_id INTEGER NOT NULL,"
            " seq INTEGER NOT NULL, account TEXT NOT NULL, began_unix_ms INTEGER NOT NULL,"
            " flags INTEGER NOT NULL, payload BLOB NOT NULL,"
            " PRIMARY KEY (arrived_minute, spool_id, seq)) STRICT, WITHOUT ROWID",
            "CREATE INDEX raw_by_spool ON raw (spool_id, seq)",
            # What was not believed, or cannot be read: held until an admin decides.
            "CREATE TABLE quarantine (id INTEGER PRIMARY KEY, node TEXT NOT NULL,"
            " spool TEXT NOT NULL, seq INTEGER NOT NULL, last_seq INTEGER NOT NULL,"
            " kind TEXT NOT NULL, reason TEXT NOT NULL, payload BLOB NOT NULL,"
            " arrived_unix_ms INTEGER NOT NULL, state TEXT NOT NULL, settled_by TEXT NOT NULL,"
            " settled_unix_ms INTEGER NOT NULL, UNIQUE (node, spool, seq, kind)) STRICT",
            "CREATE INDEX quarantine_by_state ON quarantine (state, node)",
            # What sums are by, beside the minute; a number each, so that sums are small rows.
            "CREATE TABLE dimensions (id INTEGER PRIMARY KEY, account TEXT NOT NULL,"
            " deployment TEXT NOT NULL, model TEXT NOT NULL, sla_tier TEXT NOT NULL,"
            " tier_served TEXT NOT NULL, tier_billed TEXT NOT NULL,"
            " card_version INTEGER NOT NULL, serving_pop TEXT NOT NULL,"
            " ingress_pop TEXT NOT NULL, UNIQUE (account, deployment, model, sla_tier,"
            " tier_served, tier_billed, card_version, serving_pop, ingress_pop)) STRICT",
            "CREATE TABLE sums (minute_unix_ms INTEGER NOT NULL, dimension_id INTEGER NOT NULL,"
            f" booked_month INTEGER NOT NULL, {_SUMS},"
            " PRIMARY KEY (minute_unix_ms, dimension_id, booked_month)) STRICT, WITHOUT ROWID",
            # Each row is a UsageKey with its UsageSums. booked_month, such as 202611, is the
            # month that bills them: a later one than that of the minute for late records.
            "CREATE VIEW usage_by_minute AS SELECT sums.minute_unix_ms, account, deployment,"
            " model, sla_tier, tier_served, tier_billed, card_version, serving_pop,"
            f" ingress_pop, booked_month, {', '.join(SUM_NAMES)}"
            " FROM sums JOIN dimensions ON dimensions.id = sums.dimension_id",
            "CREATE INDEX sums_by_month ON sums (booked_month)",
            # Sketches of 5 minutes, a row for each bin: family is "pop" (of the ingress) or
            # "account", kind is that of coordinator.core.usage_sketches.
            "CREATE TABLE sketch_scopes (id INTEGER PRIMARY KEY, family TEXT NOT NULL,"
            " sla_tier TEXT NOT NULL, name TEXT NOT NULL,"
            " UNIQUE (family, sla_tier, name)) STRICT",
            "CREATE TABLE sketch_bins (bucket_unix_ms INTEGER NOT NULL,"
            " scope_id INTEGER NOT NULL, kind INTEGER NOT NULL, bin INTEGER NOT NULL,"
            " count INTEGER NOT NULL, PRIMARY KEY (scope_id, kind, bucket_unix_ms, bin))"
            " STRICT, WITHOUT ROWID",
            # Raw records that are in the blob store instead, in the order of their keys: day is
            # that of their arrival, last_* the key of the last one.
            "CREATE TABLE exports (id INTEGER PRIMARY KEY, day TEXT NOT NULL,"
            " sha256 BLOB NOT NULL, size_bytes INTEGER NOT NULL, records INTEGER NOT NULL,"
            " nano_usd INTEGER NOT NULL, began_min_unix_ms INTEGER NOT NULL,"
            " began_max_unix_ms INTEGER NOT NULL, last_minute INTEGER NOT NULL,"
            " last_spool_id INTEGER NOT NULL, last_seq INTEGER NOT NULL,"
            " exported_unix_ms INTEGER NOT NULL) STRICT",
        ),
    ),
)
