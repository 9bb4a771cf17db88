"""The table of uses of keys, as migrations."""

from __future__ import annotations

from coordinator.usage.migration import Migration

KEY_USE_MIGRATIONS = (
    Migration(
        "key_uses_0001",
        (
            "CREATE TABLE key_uses (key_id TEXT PRIMARY KEY, last_used_unix_ms INTEGER NOT NULL)"
            " STRICT, WITHOUT ROWID",
        ),
    ),
)
