"""Questions about sums of usage for the reports: by any of their dimensions, in one time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from coordinator.usage.day_sums import DAY_MS
from protos.domain.usage_record import SUM_NAMES, UsageSums
from protos.wire.sketches import Sketch

if TYPE_CHECKING:
    import sqlite3

    from coordinator.core.usage_sketches import ScopeFamily, SketchKind

_SUMS = ", ".join(f"sum({name})" for name in SUM_NAMES)
_NAMED_SUMS = ", ".join(f"sum({name}) AS {name}" for name in SUM_NAMES)
#: What sums may be grouped by.
_COLUMNS = frozenset(
    {"account", "sla_tier", "card_version", "serving_pop", "ingress_pop", "booked_month"}
)

G = TypeVar("G")

#: A row: the group's values, in the order asked for, and its sums.
Grouped = list[tuple[tuple[str, ...], UsageSums]]


def grouped_sums(
    columns: Sequence[str], from_unix_ms: int, until_unix_ms: int, account: str = ""
) -> Callable[[sqlite3.Connection], Grouped]:
    """Return a question for the sums of minutes in that time, by ``columns``, in order.

    ``account``: only its own. Whole days are read from the sums by day, what is left at both ends
    from those by minute.
    """
    first_day, last_day = _whole_days(from_unix_ms, until_unix_ms)
    return _grouped(
        columns,
        [
            (_MINUTES, from_unix_ms, first_day),
            (_DAYS, first_day, last_day),
            (_MINUTES, last_day, until_unix_ms),
        ],
        account,
    )


def month_sums(
    columns: Sequence[str], first_month: int, last_month: int, account: str = ""
) -> Callable[[sqlite3.Connection], Grouped]:
    """Return a question for the sums that months such as 202611 bill, by ``columns``."""
    return _grouped(columns, [(_MONTHS, first_month, last_month + 1)], account)


_MINUTES = "sums WHERE minute_unix_ms >= ? AND minute_unix_ms < ?"
_DAYS = "day_sums WHERE day_unix_ms >= ? AND day_unix_ms < ?"
_MONTHS = "day_sums WHERE booked_month >= ? AND booked_month < ?"


_OWN = " AND dimension_id IN (SELECT id FROM dimensions WHERE account = ?)"


def _grouped(
    columns: Sequence[str], parts: Sequence[tuple[str, int, int]], account: str
) -> Callable[[sqlite3.Connection], Grouped]:
    """Return a question that adds many rows up by their numbers before it reads names."""
    assert set(columns) <= _COLUMNS
    named = ", ".join(columns)
    summed = " UNION ALL ".join(
        f"SELECT dimension_id, booked_month, {_NAMED_SUMS} FROM {part}"
        f"{_OWN if account else ''} GROUP BY dimension_id, booked_month"
        for part, _, _ in parts
    )
    owner = (account,) if account else ()
    values = [value for _, first, last in parts for value in (first, last, *owner)]

    def question(connection: sqlite3.Connection) -> Grouped:
        rows = connection.execute(
            f"SELECT {named}, {_SUMS} FROM ({summed}) AS summed"
            " JOIN dimensions ON dimensions.id = summed.dimension_id"
            f" GROUP BY {named} ORDER BY {named}",
            values,
        )
        return [_row(row, len(columns)) for row in rows]

    return question


def _row(row: Sequence[object], count: int) -> tuple[tuple[str, ...], UsageSums]:
    sums = [int(str(value)) for value in row[count:]]
    return tuple(map(str, row[:count])), UsageSums(*sums)


def merged_quantiles(
    kind: SketchKind,
    family: ScopeFamily,
    from_unix_ms: int,
    until_unix_ms: int,
    group_of: Callable[[str, str], G],
    ratios: Sequence[float],
    account: str = "",
) -> Callable[[sqlite3.Connection], dict[G, tuple[float, ...]]]:
    """Return a question for quantiles of merged sketches, by what ``group_of`` assigns them to.

    ``group_of`` gets the SLA tier and the POP or account; ``account``: only of this one, in the
    family of accounts. A group without a value is left out.
    """
    first_day, last_day = _whole_days(from_unix_ms, until_unix_ms)
    parts = [
        ("sketch_bins", "bucket_unix_ms", from_unix_ms, first_day),
        ("day_bins", "day_unix_ms", first_day, last_day),
        ("sketch_bins", "bucket_unix_ms", last_day, until_unix_ms),
    ]
    own = " AND name = ?" if account else ""
    # Each part by scope first, as the tables are ordered.
    found = " UNION ALL ".join(
        f"SELECT sla_tier, name, bin, count FROM sketch_scopes JOIN {table}"
        f" ON scope_id = sketch_scopes.id WHERE family = ? AND kind = ? AND {at} >= ? AND {at} < ?"
        f"{own}"
        for table, at, _, _ in parts
    )
    owner = (account,) if account else ()
    values = [one for _, _, *when in parts for one in (str(family), int(kind), *when, *owner)]

    def question(connection: sqlite3.Connection) -> dict[G, tuple[float, ...]]:
        merged: dict[G, Sketch] = {}
        for sla_tier, name, number, count in connection.execute(
            f"SELECT sla_tier, name, bin, sum(count) FROM ({found}) GROUP BY sla_tier, name, bin",
            values,
        ):
            bins = merged.setdefault(group_of(sla_tier, name), Sketch()).bins
            bins[number] = bins.get(number, 0) + count
        return {
            group: tuple(sketch.quantile(ratio) or 0.0 for ratio in ratios)
            for group, sketch in merged.items()
        }

    return question


def _whole_days(from_unix_ms: int, until_unix_ms: int) -> tuple[int, int]:
    """Return where the whole days within a time begin and end; the same twice: there are none."""
    first_day = -(-from_unix_ms // DAY_MS) * DAY_MS
    last_day = until_unix_ms // DAY_MS * DAY_MS
    return (first_day, last_day) if first_day < last_day else (until_unix_ms, until_unix_ms)
