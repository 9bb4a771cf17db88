"""What the tables of a large fleet weigh, and how much they hold up while they change.

    python -m tests.bench.router_tables --weigh FOLDER

weighs the snapshots in FOLDER in a process of their own. The rest is run by ``tests.bench.router``:
pushes are applied as an agent applies them, from the message's bytes on, while another process
sends a chunk every millisecond to the same event loop.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median

import uvloop

from agent.link.table_files import Image, TableFiles
from agent.link.tables import TableKeeper
from agent.main import GC_THRESHOLDS, SWITCH_INTERVAL_S
from protos import wire
from protos.domain.customers import ApiKey
from protos.domain.resources import Node, Replica, ReplicaState, Resource, ResourceType
from protos.domain.routing_table import Snapshot, Table, TableVersion, diff, table_of
from protos.v1 import fleet_pb2

#: The most that a push may change and still be called a change.
DELTA_SHARE = 0.01
ROUNDS = 5
CHUNK_EVERY_S = 0.001
#: Lets those chunks pass that waited while something was prepared.
SETTLE_S = 0.02
_STAMP_BYTES = 8
#: Writes what its clock says, so that the reader knows how long each chunk was on its way.
_SENDER = """
import socket, sys, time
out = socket.socket(fileno=int(sys.argv[1]))
due = time.monotonic()
while True:
    out.sendall(time.monotonic_ns().to_bytes(8, "big"))
    due = max(due + float(sys.argv[2]), time.monotonic())
    time.sleep(max(0.0, due - time.monotonic()))
"""


def now_mono_ms() -> float:
    return time.monotonic() * 1_000


def keeper() -> TableKeeper:
    return TableKeeper(now_mono_ms, lambda view, kinds: None)


def snapshots(held: dict[ResourceType, Table]) -> list[bytes]:
    """Return each table as the message that brings it to an agent without one."""
    return [
        wire.snapshot_to_wire(
            Snapshot(table.type, table.at, table.rows, table.digest), 1
        ).SerializeToString()
        for table in held.values()
    ]


async def take_snapshot(tables: TableKeeper, message: bytes) -> None:
    steps = wire.snapshot_from_wire_steps(fleet_pb2.Snapshot.FromString(message))
    await tables.apply(await tables.in_slices(steps))


async def take_delta(tables: TableKeeper, message: bytes) -> None:
    steps = wire.delta_from_wire_steps(fleet_pb2.Delta.FromString(message))
    await tables.apply(await tables.in_slices(steps))


def deltas(held: dict[ResourceType, Table], chance: random.Random) -> list[list[bytes]]:
    """Return, for each round, the messages that change a hundredth of every table's rows."""
    current, rounds = dict(held), []
    for number in range(ROUNDS):
        messages = []
        for kind, table in current.items():
            rows = dict(table.rows)
            for key in chance.sample(sorted(rows), max(1, int(len(rows) * DELTA_SHARE))):
                resource = wire.decode_row(kind, rows[key])
                assert resource is not None
                rows[key] = wire.encode_row(_changed(resource, number))
            new = table_of(kind, TableVersion(1, table.at.version + 1), rows)
            messages.append(wire.delta_to_wire(diff(table, new), 1).SerializeToString())
            current[kind] = new
        rounds.append(messages)
    return rounds


def _changed(resource: Resource, number: int) -> Resource:
    match resource:
        case Replica():
            odd = ReplicaState.STOPPING if number % 2 else ReplicaState.READY
            return replace(resource, state=odd, generation=number + 2)
        case Node():
            return replace(resource, intent_reason=f"round {number}")
        case ApiKey():
            return replace(resource, expires_unix_ms=number + 1)
    return resource


class Chunks(asyncio.Protocol):
    """Reads stamps; while ``counting`` it keeps how late each was read, in ms."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []
        self.counting = False
        self._came = asyncio.Event()
        self._rest = b""

    async def next(self) -> None:
        self._came.clear()
        await self._came.wait()

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        data = self._rest + data
        whole = len(data) - len(data) % _STAMP_BYTES
        self._rest = data[whole:]
        self._came.set()
        if not self.counting:
            return
        for start in range(0, whole, _STAMP_BYTES):
            sent_ns = int.from_bytes(data[start : start + _STAMP_BYTES], "big")
            self.late_ms.append((now_ns - sent_ns) / 1e6)


async def meanwhile(chunks: Chunks, work: Awaitable[object]) -> tuple[float, list[float]]:
    """Run ``work``; return how long it took, and how late each chunk was that came meanwhile."""
    await asyncio.sleep(SETTLE_S)
    chunks.late_ms, chunks.counting = [], True
    began = now_mono_ms()
    await work
    took_ms = now_mono_ms() - began
    await chunks.next()  # with those that have waited since before the end
    chunks.counting = False
    return took_ms, chunks.late_ms


async def _measure(held: dict[ResourceType, Table], chance: random.Random) -> dict[str, float]:
    ours, theirs = socket.socketpair()
    with theirs, ours:
        ours.setblocking(False)
        command = [sys.executable, "-c", _SENDER, str(theirs.fileno()), str(CHUNK_EVERY_S)]
        sender = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        try:
            _, chunks = await asyncio.get_running_loop().create_connection(Chunks, sock=ours)
            await chunks.next()
            return await _measure_beside(chunks, held, chance)
        finally:
            sender.kill()
            sender.wait()


async def _took_ms(
    chunks: Chunks,
    tables: TableKeeper,
    messages: Iterable[bytes],
    take: Callable[[TableKeeper, bytes], Awaitable[object]],
    late: list[float],
) -> float:
    """Take ``messages`` in turn; how late chunks were meanwhile is added to ``late``."""
    took_ms = 0.0
    for message in messages:
        step_ms, step_late = await meanwhile(chunks, take(tables, message))
        took_ms += step_ms
        late += step_late
    return took_ms


async def _measure_beside(
    chunks: Chunks, held: dict[ResourceType, Table], chance: random.Random
) -> dict[str, float]:
    whole, changes = snapshots(held), deltas(held, chance)
    snapshot_ms: list[float] = []
    delta_ms: list[float] = []
    snapshot_late: list[float] = []
    again_late: list[float] = []
    delta_late: list[float] = []
    image_late: list[float] = []
    _, idle_late = await meanwhile(chunks, asyncio.sleep(1.0))
    tables = keeper()
    for _ in range(ROUNDS):
        tables = keeper()
        snapshot_ms.append(await _took_ms(chunks, tables, whole, take_snapshot, snapshot_late))
        # again, as after a gap: the same rows in new bytes
        await _took_ms(chunks, tables, whole, take_snapshot, again_late)
    for messages in changes:
        delta_ms.append(await _took_ms(chunks, tables, messages, take_delta, delta_late))
    with tempfile.TemporaryDirectory() as folder:
        image, files = (
            Image(tuple(tables.tables.values()), 0),
            TableFiles(Path(folder), "fleet/gru-1"),
        )
        for _ in range(ROUNDS):
            _, late = await meanwhile(chunks, asyncio.to_thread(files.save, image))
            image_late += late
    late = [*snapshot_late, *again_late, *delta_late]
    return {
        "delta_1pct_ms": round(median(delta_ms), 2),
        "chunk_delay_ms_p99_meanwhile": _p99(late),
        "chunk_delay_ms_p99_delta": _p99(delta_late),
        "chunk_delay_ms_p99_snapshot": _p99(snapshot_late),
        "chunk_delay_ms_p99_snapshot_again": _p99(again_late),
        "chunk_delay_ms_p99_image": _p99(image_late),
        "chunk_delay_ms_max": round(max(late), 2),
        "chunk_delay_ms_p99_idle": _p99(idle_late),
        "chunks_meanwhile": len(late),
        "snapshot_ms": round(median(snapshot_ms), 1),
    }


def _p99(values: list[float]) -> float:
    return round(sorted(values)[int(len(values) * 0.99)], 2)


def measure_changes(held: dict[ResourceType, Table], chance: random.Random) -> dict[str, float]:
    """Apply whole tables, then changes of 1 %, then write the image, beside a stream of chunks."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(*GC_THRESHOLDS)
    gc.collect()
    gc.freeze()
    return uvloop.run(_measure(held, chance))


def rss_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def weigh(folder: Path) -> dict[str, int]:
    """Hold the snapshots in ``folder`` as an agent does; return what that adds to this process."""
    gc.collect()
    before = rss_bytes()
    tables = keeper()

    async def take_all() -> None:
        for path in sorted(folder.iterdir()):
            await take_snapshot(tables, path.read_bytes())

    uvloop.run(take_all())
    gc.collect()
    rows = sum(len(table.rows) for table in tables.tables.values())
    return {"table_bytes_rss": rss_bytes() - before, "rows": rows}


def weigh_apart(held: dict[ResourceType, Table], folder: Path) -> dict[str, int]:
    """Weigh ``held`` in a fresh process; ``folder`` is for its snapshots."""
    for number, message in enumerate(snapshots(held)):
        (folder / f"{number}.snapshot").write_bytes(message)
    command = [sys.executable, "-m", "tests.bench.router_tables", "--weigh", str(folder)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, int] = json.loads(found.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weigh", type=Path, required=True)
    print(json.dumps(weigh(parser.parse_args().weigh)))


if __name__ == "__main__":
    main()
