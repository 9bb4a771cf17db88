"""What a trace costs, and what an agent weighs with a full ring.

    make bench BENCH=traces
    python -m tests.bench.traces [--rows N] [--requests N]

On the request's way: marks, 200 tokens' times, the hand-over. On the keeping thread: making the
trace of a request with 300 candidates, its message, its row. Then a real agent, GRU, whose ring was
filled to its bound before it started, under requests that each push one out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from agent.core.request.attempt import TokenTimes
from agent.core.request.log import AttemptLog, RequestLog
from agent.traces.ring import TraceRing, row_of
from protos.domain.resources import Resource, Tier
from protos.domain.router import Placement, place
from protos.domain.trace import AttemptOutcome, AttemptPurpose, Trace
from protos.wire import trace_to_wire
from tests.bench.relay import rss_mb
from tests.bench.report import write_report
from tests.support import fleets
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Fleet
from tests.support.traces import trace

TARGETS, TOKENS = 300, 200
_MAX_BYTES = 1 << 33


def world(targets: int) -> Placement:
    """A placement among so many targets."""
    resources: list[Resource] = [fleets.model(), fleets.deployment(), fleets.price(Tier.EDGE, 12)]
    for number in range(targets):
        node_id, pop_id = f"n-{number}", f"P{number}"
        resources += [
            fleets.pop(pop_id, Tier.EDGE),
            fleets.node(node_id, pop_id),
            fleets.replica(node_id),
        ]
    view = fleets.view(*resources)
    found = fleets.lookup({}, fleets.target(20.0))
    request = fleets.request()
    return place(view, request, "n-0", found, draw=0.5, fill=lambda _node: 0.1)


def note_request(placement: Placement, sink: Callable[[Callable[[], Trace]], None]) -> None:
    """Do all that tracing adds to a request's own way, its tokens one a read."""
    log = RequestLog("0" * 32, 1_700_000_000_000, "/v1/chat/completions", 0.0, 0.1)
    log.authed_mono_ms = log.placed_mono_ms = log.asked_mono_ms = 0.2
    log.first_token_mono_ms = 50.0
    log.tokens = tokens = TokenTimes(None)
    for number in range(TOKENS):
        tokens.count(1, 50.0 + number)
    log.attempts.append(
        AttemptLog("n-0", AttemptOutcome.ANSWERED, AttemptPurpose.SERVE, "", 250.0, 0.2, 150.0)
    )
    log.placements.append(placement)
    sink(log.finish(("n-0", "P0")).trace)


def per_call_us(call: Callable[[], object], times: int) -> float:
    """The best of five rounds: what is left is the work, not the neighbours."""
    best_s = float("inf")
    for _ in range(5):
        began_s = time.perf_counter()
        for _ in range(times):
            call()
        best_s = min(best_s, (time.perf_counter() - began_s) / times)
    return best_s * 1e6


def costs(folder: Path) -> dict[str, float]:
    """Microseconds for one request, by where they are spent."""
    placement = world(TARGETS)
    made: list[Callable[[], Trace]] = []
    note_request(placement, made.append)
    one = made[0]()
    ring = TraceRing(folder / "costs.db", max_rows=2_000, max_bytes=_MAX_BYTES)
    rows = [row_of(trace(number, attempts=one.attempts)) for number in range(20_000)]
    batches = iter([rows[at : at + 256] for at in range(0, len(rows), 256)])
    figures = {
        "request_us": per_call_us(lambda: note_request(placement, lambda _make: None), 300),
        "make_us": per_call_us(made[0], 300),
        "encode_us": per_call_us(lambda: trace_to_wire(one).SerializeToString(), 300),
        "write_us": per_call_us(lambda: ring.append(next(batches)), 10) / 256,
        "trace_bytes": float(len(rows[0][1])),
    }
    ring.close()
    return figures


def fill(path: Path, rows: int) -> None:
    """Fill a ring to its bound with traces of a small fleet."""
    ring = TraceRing(path, max_rows=rows, max_bytes=_MAX_BYTES)
    for start in range(0, rows, 1_000):
        ring.append([row_of(trace(number)) for number in range(start, min(rows, start + 1_000))])
    ring.close()


def weigh(gru: AgentClient, requests: int) -> float:
    """Return the agent's memory after so many streams."""
    for _ in range(requests):
        assert gru.chat(stream=True).status == 200
    return rss_mb(gru.pid)


def run(rows: int, requests: int) -> dict[str, float]:
    """Measure everything and return it by key."""
    with (
        tempfile.TemporaryDirectory(prefix="ef") as folder,
        FakeEngineProcess("acme-chat") as engine,
        Fleet(Path(folder) / "f", [engine.url]) as fleet,
    ):
        figures = costs(Path(folder))
        ring_file = fleet.state_dir / "agents" / "gru-1" / "traces.db"
        fleet.configure("gru-1", "traces", max_rows=rows, max_bytes=_MAX_BYTES)
        figures["empty_ring_mb"] = weigh(fleet.agent("gru-1"), requests)
        fleet.kill("gru-1")
        ring_file.unlink()
        fill(ring_file, rows)
        fleet.start("gru-1")
        gru = fleet.agent("gru-1")
        gru.wait_ready()
        figures["full_ring_mb"] = weigh(gru, requests)
        held = gru.status()["traces"]
        figures["rows"], figures["ring_file_mb"] = held["rows"], ring_file.stat().st_size / 1e6
        figures["dropped"] = held["dropped"]
        return figures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=500)
    given = parser.parse_args()
    figures = run(given.rows, given.requests)
    write_report("traces", figures)
    for name, value in figures.items():
        print(f"{name:<16} {value:12.1f}")


if __name__ == "__main__":
    main()
