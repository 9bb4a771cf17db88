"""The migrations of every part that keeps tables in the usage database, in order."""

from __future__ import annotations

from coordinator.usage.billing_schema import BILLING_MIGRATIONS
from coordinator.usage.day_sums import DAY_SUMS_MIGRATIONS
from coordinator.usage.key_use_schema import KEY_USE_MIGRATIONS
from coordinator.usage.schema import USAGE_MIGRATIONS
from coordinator.usage.utilisation import UTILISATION_MIGRATIONS

#: Each part appends its own here. A released migration is never changed or removed.
ALL_MIGRATIONS = (
    *USAGE_MIGRATIONS,
    *UTILISATION_MIGRATIONS,
    *BILLING_MIGRATIONS,
    *KEY_USE_MIGRATIONS,
    *DAY_SUMS_MIGRATIONS,
)
