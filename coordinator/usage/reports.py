"""Questions about sums and sketches of usage."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.usage_record import SUM_NAMES, UsageSums
from protos.wire.sketches import Sketch

if TYPE_CHECKING:
    import sqlite3

    from coordinator.core.usage_sketches import ScopeFamily, SketchKind

_SUMS = ", ".join(f"coalesce(sum({name}), 0)" for name in SUM_NAMES)


class GroupBy(enum.StrEnum):
    """What sums are shown by."""

    DAY = "day"
    DEPLOYMENT = "deployment"
    TIER = "tier"


_COLUMNS = {
    GroupBy.DAY: "strftime('%Y-%m-%d', minute_unix_ms / 1000, 'unixepoch')",
    GroupBy.DEPLOYMENT: "account || ' ' || deployment",
    GroupBy.TIER: "CASE tier_served WHEN '' THEN 'none' ELSE tier_served END || ' as '"
    " || CASE tier_billed WHEN '' THEN 'free' ELSE tier_billed END",
}


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """What is asked of the sums; empty: all. ``until_unix_ms`` is not included."""

    account: str = ""
    deployment: str = ""
    from_unix_ms: int = 0
    until_unix_ms: int = 2**62
    by: GroupBy = GroupBy.DAY


@dataclass(frozen=True, slots=True)
class UsageRow:
    """The sums of one group."""

    group: str
    sums: UsageSums


def sums_by(query: UsageQuery) -> Callable[[sqlite3.Connection], list[UsageRow]]:
    """Return a question for sums by group, in the order of the groups."""

    def question(connection: sqlite3.Connection) -> list[UsageRow]:
        where, values = "minute_unix_ms >= ? AND minute_unix_ms < ?", []
        for column in ("account", "deployment"):
            if wanted := getattr(query, column):
                where += f" AND {column} = ?"
                values.append(wanted)
        rows = connection.execute(
            f"SELECT {_COLUMNS[query.by]} AS grouped, {_SUMS} FROM usage_by_minute"
            f" WHERE {where} GROUP BY grouped ORDER BY grouped",
            (query.from_unix_ms, query.until_unix_ms, *values),
        )
        return [UsageRow(str(group), UsageSums(*sums)) for group, *sums in rows]

    return question


def sketches(
    kind: SketchKind, family: ScopeFamily, from_unix_ms: int, until_unix_ms: int
) -> Callable[[sqlite3.Connection], dict[tuple[str, str], Sketch]]:
    """Return a question for SLA tier and name of the scope -> the merged sketch of that time."""

    def question(connection: sqlite3.Connection) -> dict[tuple[str, str], Sketch]:
        found: dict[tuple[str, str], Sketch] = {}
        for sla_tier, name, number, count in connection.execute(
            "SELECT sla_tier, name, bin, sum(count) FROM sketch_bins"
            " JOIN sketch_scopes ON sketch_scopes.id = scope_id"
            " WHERE bucket_unix_ms >= ? AND bucket_unix_ms < ? AND kind = ? AND family = ?"
            " GROUP BY sla_tier, name, bin",
            (from_unix_ms, until_unix_ms, int(kind), str(family)),
        ):
            found.setdefault((sla_tier, name), Sketch()).bins[number] = count
        return found

    return question
