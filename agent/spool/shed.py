"""Counts refused requests; the counts go through the spool as small records, once a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.usage_record import UsageKey, UsageSums

if TYPE_CHECKING:
    from collections.abc import Iterator

_MINUTE_MS = 60_000
#: Different keys counted at once; over it the account and the deployment are left out.
MAX_KEYS = 10_000


class ShedCounts:
    """Refused requests since the last minute that was taken."""

    def __init__(self, ingress_pop: str) -> None:
        self._ingress_pop = ingress_pop
        self._counts: dict[tuple[int, str, str, str, str], int] = {}

    def add(
        self, now_unix_ms: int, account: str, deployment: str, model: str, sla_tier: str
    ) -> None:
        """Count one."""
        minute = now_unix_ms - now_unix_ms % _MINUTE_MS
        key = (minute, account, deployment, model, sla_tier)
        if key not in self._counts and len(self._counts) >= MAX_KEYS:
            key = (minute, "", "", "", sla_tier)
        self._counts[key] = self._counts.get(key, 0) + 1

    def take(self, now_unix_ms: int | None) -> Iterator[tuple[UsageKey, UsageSums]]:
        """Yield the counts of other minutes than that of ``now_unix_ms``; None: of all.

        Each is forgotten when the next one is asked for.
        """
        current = None if now_unix_ms is None else now_unix_ms - now_unix_ms % _MINUTE_MS
        for key in [key for key in self._counts if key[0] != current]:
            minute, account, deployment, model, sla_tier = key
            sums = UsageSums(shed=self._counts[key])
            yield (
                UsageKey(
                    minute, account, deployment, model, sla_tier, "", "", 0, "", self._ingress_pop
                ),
                sums,
            )
            del self._counts[key]
