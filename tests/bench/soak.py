"""Memory of agents under an hour of mixed requests: no kind of request may leave any behind.

    make bench BENCH=soak [BUILD=compiled] [SECONDS=3600]
    python -m tests.bench.soak [--seconds S] [--rate REQUESTS_PER_S] [--every S]

Two agents, one of them with the engine (the tests' double), are asked at a low rate for all that a
request can come to: whole answers and streams of several formats, a hop over the peers' network,
streams that their client leaves, and refusals. Rings and caches fill at first, so that growth is
the slope of a line through the second half. An object that compiled code forgets to release once a
request would be 180,000 objects an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from protos.build_info import build_info
from tests.bench.relay import rss_mb
from tests.bench.report import write_report
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Fleet

MODEL = "acme-chat"
TOKENS = 16
MAX_GROWTH_MB_PER_HOUR = 5.0
#: In a shorter run rings and caches are still filling.
LEAST_JUDGED_S = 1_800.0
_CLIENTS = 8


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request; a client that ``leaves`` reads the beginning of its answer only."""

    name: str
    path: str
    body: bytes
    leaves: bool = False
    signed: bool = True


def kinds(model: str) -> list[Kind]:
    """Return every kind of request that is sent, in the order in which they are sent."""
    messages = [{"role": "user", "content": "hello " * 100}]
    chat = {"model": model, "messages": messages, "max_tokens": TOKENS}
    stream = json.dumps(chat | {"stream": True}).encode()
    completions, responses = "/v1/chat/completions", "/v1/responses"
    rest = {"model": model, "input": "hello", "stream": True}
    return [
        Kind("stream", completions, stream),
        Kind("whole", completions, json.dumps(chat).encode()),
        Kind("messages", "/v1/messages", stream),
        Kind("responses", responses, json.dumps(rest).encode()),
        Kind("left", completions, stream, leaves=True),
        Kind("no key", completions, stream, signed=False),
        Kind("no JSON", completions, b"{" * 100),
        Kind("no such model", completions, json.dumps(chat | {"model": "none"}).encode()),
        Kind("no such route", "/v1/none", b"{}"),
    ]


class Client:
    """Sends one request after the other to one agent, at most on one connection at a time."""

    def __init__(self, agent: AgentClient) -> None:
        parts = urlsplit(agent.url)
        self._host, self._port = parts.hostname, parts.port
        self._key = agent.api_key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, kind: Kind) -> int:
        """Send one request and return the status of its answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        key = f"authorization: Bearer {self._key}\r\n" if kind.signed else ""
        head = f"POST {kind.path} HTTP/1.1\r\nhost: x\r\n{key}content-length: {len(kind.body)}\r\n"
        writer.write(head.encode() + b"\r\n" + kind.body)
        answer = await reader.readuntil(b"\r\n\r\n")
        if kind.leaves:
            self.close()
            return int(answer[9:12])
        if b"chunked" in answer:
            await reader.readuntil(b"\r\n0\r\n\r\n")
        else:
            lengths = [line for line in answer.split(b"\r\n") if line.startswith(b"content-length")]
            await reader.readexactly(int(lengths[0].partition(b":")[2]))
        if b"connection: close" in answer:
            self.close()
        return int(answer[9:12])

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def load(agents: list[AgentClient], rate_per_s: float, until_s: float) -> Counter[str]:
    """Send all kinds in turn, at ``rate_per_s``, and count their answers."""
    answers: Counter[str] = Counter()
    clients = [Client(agents[number % len(agents)]) for number in range(_CLIENTS)]
    every = kinds(agents[0].model)
    began_s, sent = time.perf_counter(), 0

    async def run(client: Client, number: int) -> None:
        nonlocal sent
        while time.perf_counter() < until_s:
            kind = every[number % len(every)]
            number += 1
            sent += 1
            due_s = began_s + sent / rate_per_s
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            answers[f"{kind.name}: {await client.send(kind)}"] += 1
        client.close()

    await asyncio.gather(*(run(client, number) for number, client in enumerate(clients)))
    return answers


async def watch(
    pids: dict[str, int], every_s: float, until_s: float, between: Callable[[], None]
) -> dict[str, list[tuple[float, float]]]:
    """Return the memory of ``pids`` over time: seconds from the beginning, and MB."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in pids}
    began_s = time.perf_counter()
    while (now_s := time.perf_counter()) < until_s:
        for name, pid in pids.items():
            seen[name].append((now_s - began_s, rss_mb(pid)))
        print(
            f"{now_s - began_s:6.0f} s", {name: f"{of[-1][1]:.1f} MB" for name, of in seen.items()}
        )
        await asyncio.to_thread(between)
        await asyncio.sleep(min(every_s, max(0.0, until_s - time.perf_counter())))
    return seen


def growth_mb_per_hour(points: list[tuple[float, float]]) -> float:
    """Return the slope of a line through the second half of ``points``."""
    half = points[len(points) // 2 :]
    mean_s = sum(at_s for at_s, _ in half) / len(half)
    mean_mb = sum(mb for _, mb in half) / len(half)
    spread = sum((at_s - mean_s) ** 2 for at_s, _ in half)
    together = sum((at_s - mean_s) * (mb - mean_mb) for at_s, mb in half)
    return together / spread * 3_600 if spread else 0.0


async def soak(fleet: Fleet, engine: FakeEngineProcess, options: argparse.Namespace) -> None:
    """Run the load and write what memory did."""
    agents = [fleet.agent("iad-1"), fleet.agent("gru-1")]
    until_s = time.perf_counter() + options.seconds
    seen, answers = await asyncio.gather(
        watch({one.node: one.pid for one in agents}, options.every, until_s, engine.forget),
        load(agents, options.rate, until_s),
    )
    growth = {name: growth_mb_per_hour(points) for name, points in seen.items()}
    figures: dict[str, object] = {
        "build": str(build_info()),
        "seconds": options.seconds,
        "requests": answers.total(),
        "answers": dict(sorted(answers.items())),
        "growth_mb_per_hour": growth,
        "rss_mb": {name: [mb for _, mb in points] for name, points in seen.items()},
    }
    write_report("soak", figures)
    for name, of in figures.items():
        print(f"{name:20} {of}")
    if options.seconds >= LEAST_JUDGED_S and max(growth.values()) > MAX_GROWTH_MB_PER_HOUR:
        raise SystemExit(f"memory grew by more than {MAX_GROWTH_MB_PER_HOUR} MB an hour")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=3_600.0)
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second, all agents")
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two looks")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ef") as folder,
        FakeEngineProcess(MODEL) as engine,
        Fleet(Path(folder) / "f", [engine.url]) as fleet,
    ):
        engine.control(tokens=TOKENS)
        asyncio.run(soak(fleet, engine, options))


if __name__ == "__main__":
    main()
