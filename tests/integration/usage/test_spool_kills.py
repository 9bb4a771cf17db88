"""An agent killed at each call of the operating system that its spool makes.

In writing, in syncing, in allocating, in the coordinator's commit and after it, in deleting: what
a client may have seen is counted, and nothing is counted twice.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from protos.domain.usage_record import UsageCause
from protos.v1 import usage_pb2
from tests.support.counting_file import CountingFile, append_line
from tests.support.kills import CHANGING, killed_at_each_call
from tests.support.spool_files import written_spool
from tests.support.spools import delivering, spool_in
from tests.support.usage_records import usage_record
from tests.support.waiting import wait_until_async

OLDER, GROUPS, GROUP = 9, 4, 4
_SMALL = {"segment_bytes": 5_120, "max_in_flight": 1}


async def work(folder: Path, answered: Path, ended: Path, counts: Path) -> None:
    """Deliver an earlier run's spool; write some segments, deliver and delete them."""
    spool, coordinator = spool_in(folder, **_SMALL), CountingFile(counts)
    spool.start()
    loop = asyncio.get_running_loop()
    async with delivering(spool, coordinator):
        for group in range(GROUPS):
            waits = []
            for place in range(GROUP):
                trace = f"{group + 1:016x}{place:016x}"
                waits.append(loop.create_future())
                await reserve(spool)
                number = spool.record(
                    usage_record(trace_id=trace),
                    lambda wait=waits[-1], trace=trace: (
                        append_line(answered, trace),
                        wait.set_result(None),
                    ),
                )
                waits[-1].add_done_callback(
                    lambda _wait, number=number: spool.seen(number, UsageCause.COMPLETE)
                )
            await asyncio.gather(*waits)
        await wait_until_async(
            lambda: coordinator.total() == OLDER + GROUPS * GROUP, 10, "all are counted"
        )
        append_line(ended, "all")
    await spool.close()


async def reserve(spool) -> None:
    """Reserve space, when there is some: files are small here."""
    await wait_until_async(lambda: spool._taken_bytes + 1_024 <= spool._free_bytes, 5, "space")
    spool.reserve()


async def recover(folder: Path, counts: Path) -> CountingFile:
    """Start again after the kill, and deliver everything."""
    spool, coordinator = spool_in(folder, **_SMALL), CountingFile(counts)
    spool.start()
    async with delivering(spool, coordinator):
        await wait_until_async(
            lambda: [path for path in folder.iterdir() if "-" in path.name] == [spool.own.path],
            10,
            "earlier spools are delivered and deleted",
        )
    await spool.close()
    return coordinator


def test_what_a_client_may_have_seen_is_counted_once_whenever_the_agent_is_killed(
    tmp_path: Path,
):
    folder, template = tmp_path / "usage", tmp_path / "template"
    answered, ended, counts = (tmp_path / name for name in ("answered", "ended", "counts"))
    written_spool(template, OLDER, segment_bytes=5_120)

    def prepare() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(template, folder)
        for path in (answered, ended, counts):
            path.unlink(missing_ok=True)

    kills, lost, partly = 0, 0, 0
    for _ in killed_at_each_call(
        prepare, lambda: asyncio.run(work(folder, answered, ended, counts)), CHANGING
    ):
        told = answered.read_text().split() if answered.exists() else []
        coordinator = asyncio.run(recover(folder, counts))
        traces = coordinator.traces()
        assert len(set(traces)) == len(traces), "no request is counted twice"
        assert set(told) <= set(traces), "each whose answer could end is counted"
        assert not coordinator.damaged
        kills += not ended.exists()
        lost += any(
            record.cause == usage_pb2.USAGE_CAUSE_AGENT_LOST
            for record in coordinator.counted.values()
        )
        partly += 0 < len(told) < GROUPS * GROUP
    assert kills > 50
    assert partly > 20
    assert lost > 0, "ends that nobody knows are named"
