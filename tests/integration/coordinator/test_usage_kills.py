"""The coordinator is killed before each statement, and between a commit and its answer."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import warnings
from pathlib import Path

import coordinator.usage.database as usage_database
from coordinator.core.usage_rollup import UsageDelta
from coordinator.core.usage_sketches import ScopeFamily, SketchKind
from coordinator.usage.ingest import Ingest
from coordinator.usage.reports import sketches
from tests.support.usage_fleet import NOW_UNIX_MS, batch, ingesting, record

SPOOL = [record(number) for number in range(1, 7)]
COST = record().nano_usd
#: Above this the test would take too long.
MAX_STEPS = 200


def post(connection: sqlite3.Connection, deltas: list[UsageDelta]) -> None:
    """Stands for the ledger: a row of its own in the same transaction."""
    connection.execute("CREATE TABLE IF NOT EXISTS booked (nano_usd INTEGER NOT NULL) STRICT")
    connection.executemany(
        "INSERT INTO booked VALUES (?)", [(delta.sums.nano_usd,) for delta in deltas]
    )


async def ship(ingest: Ingest, acknowledged: Path, step: object = lambda: None) -> None:
    """Send the spool two records at a time from what was acknowledged, as an agent does."""
    done = int(acknowledged.read_text()) if acknowledged.exists() else 0
    while done < len(SPOOL):
        outcome = await ingest.push(batch(SPOOL[done : done + 2], first=done + 1))
        step()  # type: ignore[operator]
        done = outcome.watermark
        acknowledged.write_text(str(done))


def run_killed(path: Path, acknowledged: Path, at: int) -> None:
    """Ship in this process, which ends before its ``at``-th statement or answer."""
    left = at

    def step(_sql: str = "") -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    connect = usage_database.connect

    def watched(*args: object, **kwargs: object) -> sqlite3.Connection:
        connection = connect(*args, **kwargs)  # type: ignore[arg-type]
        connection.set_trace_callback(step)
        return connection

    usage_database.connect = watched

    async def work() -> None:
        async with ingesting(path, post=post) as (_, ingest):
            await ship(ingest, acknowledged, step)

    asyncio.run(work())


def killed(path: Path, acknowledged: Path, at: int) -> bool:
    """Return whether a forked child was killed before it had shipped everything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run_killed(path, acknowledged, at)
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


async def counted(path: Path, acknowledged: Path) -> tuple[object, ...]:
    """Start again, ship the rest, and return what everything adds up to."""
    async with ingesting(path, post=post) as (database, ingest):
        await ship(ingest, acknowledged)

        def question(connection: sqlite3.Connection) -> tuple[object, ...]:
            return connection.execute(
                "SELECT (SELECT sum(requests) FROM sums), (SELECT sum(nano_usd) FROM sums),"
                " (SELECT count(*) FROM raw), (SELECT sum(nano_usd) FROM booked),"
                " (SELECT watermark FROM spools), (SELECT count(*) FROM quarantine)"
            ).fetchone()

        of = await database.read(
            sketches(SketchKind.FIRST_TOKEN, ScopeFamily.ACCOUNT, 0, NOW_UNIX_MS)
        )
        return (*(await database.read(question)), of["standard", "acme"].count)


async def make(path: Path) -> None:
    """Make an empty database, so that no kill is spent on its schema."""
    async with ingesting(path):
        pass


def test_a_coordinator_killed_at_every_step_has_counted_each_record_once(tmp_path: Path):
    template = tmp_path / "template.db"
    asyncio.run(make(template))
    at = 0
    while at < MAX_STEPS:
        at += 1
        folder = tmp_path / str(at)
        folder.mkdir()
        shutil.copy(template, folder / "usage.db")
        again = killed(folder / "usage.db", folder / "acknowledged", at)
        expected = (6, 6 * COST, 6, 6 * COST, 6, 0, 6)
        assert asyncio.run(counted(folder / "usage.db", folder / "acknowledged")) == expected, at
        if not again:
            break
    assert 20 < at < MAX_STEPS
