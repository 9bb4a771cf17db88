"""What durable records of usage cost: at the end of a stream, in processor time, after weeks away.

make bench BENCH=spool

Streams go through the gateway in this process, to an engine that answers at once, with the spool
and with a meter in memory in turn. The disk is that of the temporary folder (TMPDIR).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from agent.clock import now_mono_ms
from agent.core.usage_batch import BatchAnswer, UsageBatch
from agent.link.usage import encode_batch
from agent.relay.messages import chunk, response_head
from agent.spool.disk import Disk
from agent.spool.folders import make_spool
from agent.spool.shipper import UsageShipper
from agent.spool.space import Space
from agent.spool.spool import UsageSpool
from agent.spool.writer import SpoolWriter
from protos.domain.spool import CAUSE_CODES, NOTE, RECORD, encode_frame, encode_notes
from protos.domain.usage_record import UsageCause, UsageRecord
from protos.wire.usage import encode_record
from tests.bench.report import quantile, write_report
from tests.support.in_process_gateway import chat_request, in_process_gateway
from tests.support.meters import KeptMeter
from tests.support.stepwise_engine import end, stepwise_engine, token
from tests.support.usage_records import usage_record

_MIB = 1024 * 1024
STREAMS_AT_ONCE, ROUNDS = 4, 5
RECORDED_AT_ONCE = 256
DRAINED = 1_000_000
_STREAM = ((b"content-type", b"text/event-stream"), (b"transfer-encoding", b"chunked"))
_ENDED = b"0\r\n\r\n"


def spool_in(folder: Path) -> UsageSpool:
    """Return a spool as an agent has it by default."""
    return UsageSpool(
        folder,
        quota_bytes=4_096 * _MIB,
        segment_bytes=8 * _MIB,
        max_in_flight=4_096,
        ingress_pop="GRU",
        now_unix_ms=lambda: 1_790_000_000_000,
    )


class Timed:
    """A meter that notes how long each record took to be on disk."""

    def __init__(self, spool: UsageSpool) -> None:
        self._spool = spool
        self.durable_ms: list[float] = []
        self.reserve, self.release = spool.reserve, spool.release
        self.seen, self.shed = spool.seen, spool.shed

    def record(self, record: UsageRecord, on_durable: Callable[[], None]) -> int:
        began = now_mono_ms()

        def durable() -> None:
            self.durable_ms.append(now_mono_ms() - began)
            on_durable()

        return self._spool.record(record, durable)


async def streams(meter: object, seconds: float) -> list[float]:
    """Return the times to the first token of streams, for ``seconds``."""
    times: list[float] = []
    async with stepwise_engine() as engine:
        engine.reply = (
            response_head(200, list(_STREAM), keep_alive=True)
            + chunk(token("a"))
            + chunk(end())
            + _ENDED
        )
        async with in_process_gateway({"near": engine.pool}, meter=meter) as port:  # type: ignore[arg-type]
            until = now_mono_ms() + seconds * 1_000

            async def client() -> None:
                reader, writer = await port.server.connect()
                while now_mono_ms() < until:
                    began = now_mono_ms()
                    writer.write(chat_request())
                    await reader.readuntil(b'"content"')
                    times.append(now_mono_ms() - began)
                    await reader.readuntil(_ENDED)
                writer.close()

            await asyncio.gather(*(client() for _ in range(STREAMS_AT_ONCE)))
    return times


def bare_syncs(folder: Path, count: int = 200) -> list[float]:
    """Return how long writes of a record's size take by themselves: what this machine can do."""
    disk, times = Disk(), []
    path = folder / "bare"
    fd = disk.create(path, _MIB)
    for number in range(count):
        began = now_mono_ms()
        disk.write_through(fd, bytes(400), number * 400)
        times.append(now_mono_ms() - began)
    disk.close(fd)
    disk.remove(path)
    return times


async def through_the_gateway(folder: Path, seconds: float) -> dict[str, object]:
    """Return what the spool adds to streams."""
    spool = spool_in(folder)
    spool.start()
    timed = Timed(spool)
    with_spool: list[float] = []
    without: list[float] = []
    bare: list[float] = []
    for _ in range(ROUNDS):
        with_spool.append(statistics.median(await streams(timed, seconds / ROUNDS / 2)))
        bare += await asyncio.to_thread(bare_syncs, folder)
        without.append(statistics.median(await streams(KeptMeter(), seconds / ROUNDS / 2)))
    await spool.close()
    return {
        "end_added_ms_p50": round(quantile(timed.durable_ms, 0.5), 3),
        "end_added_ms_p99": round(quantile(timed.durable_ms, 0.99), 3),
        "bare_sync_ms_p99": round(quantile(bare, 0.99), 3),
        "ttft_added_ms": round(statistics.median(with_spool) - statistics.median(without), 3),
        "ttft_ms_p50": round(statistics.median(with_spool), 3),
        "streams": len(timed.durable_ms),
    }


async def at_full_speed(meter: object, count: int) -> tuple[float, float]:
    """Return processor time and time of ``count`` records, each awaited, many at once."""
    loop, record = asyncio.get_running_loop(), usage_record()

    async def client() -> None:
        for _ in range(count // RECORDED_AT_ONCE):
            durable = loop.create_future()
            meter.reserve()  # type: ignore[attr-defined]
            number = meter.record(record, lambda durable=durable: durable.set_result(None))  # type: ignore[attr-defined]
            await durable
            meter.seen(number, UsageCause.COMPLETE)  # type: ignore[attr-defined]

    cpu_s, wall_s = time.process_time(), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(RECORDED_AT_ONCE)))
    return time.process_time() - cpu_s, time.perf_counter() - wall_s


class Nothing:
    """A meter that does nothing: what the measuring itself costs."""

    def reserve(self) -> None:
        return

    def record(self, _record: UsageRecord, on_durable: Callable[[], None]) -> int:
        asyncio.get_running_loop().call_soon(on_durable)
        return 1

    def seen(self, _number: int, _cause: UsageCause) -> None:
        return


async def processor_time(folder: Path, count: int) -> dict[str, object]:
    """Return the processor time of a record, the kernel's share of writing included."""
    idle_s, _ = await at_full_speed(Nothing(), count)
    spool = spool_in(folder)
    spool.start()
    cpu_s, wall_s = await at_full_speed(spool, count)
    groups = spool.stats.groups
    await spool.close()
    return {
        "cpu_us_per_record": round((cpu_s - idle_s) * 1e6 / count, 2),
        "records_per_s": round(count / wall_s),
        "records_per_group": round(count / groups),
    }


def write_backlog(folder: Path, count: int) -> int:
    """Write a spool as an earlier run would have left it; return its bytes."""
    spool = make_spool(folder, Disk())
    writer = SpoolWriter(
        spool.path,
        spool.spool_id,
        segment_bytes=8 * _MIB,
        headroom_bytes=1,
        space=Space(folder, 64 * 1024 * _MIB),
        disk=Disk(),
    )
    payload, complete = encode_record(usage_record()), CAUSE_CODES[UsageCause.COMPLETE]
    for first in range(1, count + 1, 500):
        numbers = range(first, min(first + 500, count + 1))
        frames = deque((seq, encode_frame(writer.seed, RECORD, seq, payload)) for seq in numbers)
        for note in encode_notes([(seq, complete) for seq in numbers]):
            frames.append((0, encode_frame(writer.seed, NOTE, numbers[-1], note)))
        writer.commit(frames, sync=False)
    writer.close()
    return sum(path.stat().st_size for _index, path in spool.segments())


async def drain(folder: Path, count: int) -> dict[str, object]:
    """Deliver a backlog; in a process of its own, for its memory."""
    sys.setswitchinterval(0.000_5)  # as the agent does
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024
    marks: dict[str, int] = {}

    async def push(batch: UsageBatch) -> BatchAnswer:
        await asyncio.to_thread(encode_batch, batch)
        assert batch.first_seq == marks.get(batch.spool_id, 0) + 1
        marks[batch.spool_id] = batch.last_seq
        return BatchAnswer(batch.last_seq)

    spool = spool_in(folder)
    spool.start()
    shipper = UsageShipper(
        spool,
        push,
        keep_days=90,
        interval_ms=1_000.0,
        now_mono_ms=now_mono_ms,
        now_unix_ms=lambda: 1_790_000_000_000,
        draw=lambda: 0.5,
    )
    began, cpu_s = now_mono_ms(), time.process_time()
    task = asyncio.get_running_loop().create_task(shipper.run())
    late_ms = [0.0]
    while spool.stats.delivered < count:
        turn = now_mono_ms()
        await asyncio.sleep(0.005)
        late_ms.append(now_mono_ms() - turn - 5)
    drain_s = (now_mono_ms() - began) / 1_000
    cpu_s = time.process_time() - cpu_s
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await spool.close()
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024
    return {
        "drain_s": round(drain_s, 1),
        "drain_cpu_us_per_record": round(cpu_s * 1e6 / count, 2),
        "drain_loop_late_ms_p99": round(quantile(late_ms, 0.99), 2),
        "rss_mb": round(rss_mb, 1),
        "extra_rss_mb": round(rss_mb - before_mb, 1),
    }


def drained(folder: Path, count: int) -> dict[str, object]:
    """Return the figures of ``drain`` in a process of its own."""
    size = write_backlog(folder, count)
    command = [sys.executable, "-m", "tests.bench.spool", "--drain", str(folder)]
    done = subprocess.run(
        [*command, "--records", str(count)], check=True, stdout=subprocess.PIPE, text=True
    )
    figures: dict[str, object] = json.loads(done.stdout)
    return figures | {"bytes_per_record": round(size / count)}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--records", type=int, default=DRAINED)
    parser.add_argument("--drain", type=Path)
    given = parser.parse_args()
    if given.drain is not None:
        print(json.dumps(asyncio.run(drain(given.drain, given.records))))
        return
    sys.setswitchinterval(0.000_5)  # as the agent does
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = asyncio.run(through_the_gateway(folder / "streams", given.seconds))
        figures |= asyncio.run(processor_time(folder / "cpu", 400 * RECORDED_AT_ONCE))
        figures |= drained(folder / "drain", given.records)
    figures["processors"] = os.cpu_count()
    for key, value in figures.items():
        print(f"{key:>24}  {value}")
    write_report("spool", figures)


if __name__ == "__main__":
    main()
