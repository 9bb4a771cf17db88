"""How full POPs were, by the hour: sampled once a minute from what their agents report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.usage.migration import Migration

if TYPE_CHECKING:
    import sqlite3

HOUR_MS = 3_600_000
DAY_MS = 86_400_000
MINUTE_MS = 60_000
#: Fills are kept as whole millionths, so that sums are exact.
PPM = 1_000_000

UTILISATION_MIGRATIONS = (
    Migration(
        "utilisation_0001",
        (
            # newest_minute: a sample is counted once, whatever the clock does.
            "CREATE TABLE pop_utilisation (hour_unix_ms INTEGER NOT NULL, pop_id TEXT NOT NULL,"
            " samples INTEGER NOT NULL, fill_ppm INTEGER NOT NULL, nodes INTEGER NOT NULL,"
            " newest_minute INTEGER NOT NULL, PRIMARY KEY (hour_unix_ms, pop_id))"
            " STRICT, WITHOUT ROWID",
        ),
    ),
)

_ADD = (
    "INSERT INTO pop_utilisation (hour_unix_ms, pop_id, samples, fill_ppm, nodes, newest_minute)"
    " VALUES (?, ?, 1, ?, ?, ?) ON CONFLICT (hour_unix_ms, pop_id) DO UPDATE SET"
    " samples = samples + 1, fill_ppm = fill_ppm + excluded.fill_ppm,"
    " nodes = nodes + excluded.nodes, newest_minute = excluded.newest_minute"
    " WHERE excluded.newest_minute > newest_minute"
)


@dataclass(frozen=True, slots=True)
class PopFill:
    """The mean fill of a POP's engines at one moment, and how many engines that were."""

    ratio: float
    nodes: int


@dataclass(frozen=True, slots=True)
class PopDay:
    """One POP on one day, UTC: its mean fill over ``samples`` minutes."""

    pop_id: str
    day_unix_ms: int
    samples: int
    ratio: float


def add_sample(
    now_unix_ms: int, fills: Mapping[str, PopFill]
) -> Callable[[sqlite3.Connection], None]:
    """Return a change that counts one minute of each POP; a minute that was counted is ignored."""

    def change(connection: sqlite3.Connection) -> None:
        minute = now_unix_ms // MINUTE_MS
        connection.executemany(
            _ADD,
            [
                (
                    now_unix_ms - now_unix_ms % HOUR_MS,
                    pop_id,
                    round(fill.ratio * PPM),
                    fill.nodes,
                    minute,
                )
                for pop_id, fill in fills.items()
            ],
        )

    return change


def days_of_pops(
    from_unix_ms: int, until_unix_ms: int
) -> Callable[[sqlite3.Connection], list[PopDay]]:
    """Return a question for each POP's days within that time, in order."""

    def question(connection: sqlite3.Connection) -> list[PopDay]:
        rows = connection.execute(
            "SELECT pop_id, hour_unix_ms - hour_unix_ms % ? AS day, sum(samples), sum(fill_ppm)"
            " FROM pop_utilisation WHERE hour_unix_ms >= ? AND hour_unix_ms < ?"
            " GROUP BY pop_id, day ORDER BY pop_id, day",
            (DAY_MS, from_unix_ms, until_unix_ms),
        )
        return [
            PopDay(pop_id, day, samples, fill_ppm / samples / PPM)
            for pop_id, day, samples, fill_ppm in rows
        ]

    return question
