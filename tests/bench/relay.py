"""What an agent adds to the first token, and what it costs, beside the bare engine in one run.

    make bench BENCH=relay
    python -m tests.bench.relay [--requests N] [--chunks N]

A fleet of two agents as ``edgeforge up`` starts it: IAD has the engine, GRU places everything on
IAD over mutual TLS. The engine is the tests' double, without delays, so that what is left is ours.
Requests go out one at a time and in turn: bare, via IAD, via GRU; so all three see the same noise.
Times are taken at the client, from the request's last byte to the first content.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.report import quantile, write_report
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Fleet

MODEL = "acme-chat"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Client:
    """One kept-alive connection that streams."""

    def __init__(self, url: str, api_key: str, model: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        self._headers = {"authorization": f"Bearer {api_key}", "content-type": "application/json"}
        self._model = model

    def first_token_ms(self, tokens: int = 8) -> float:
        """Send one request; return when its first content came, the rest read too."""
        body = json.dumps(
            {
                "model": self._model,
                "stream": True,
                "max_tokens": tokens,
                "messages": [{"role": "user", "content": "hello"}],
            }
        )
        self._connection.request("POST", "/v1/chat/completions", body, self._headers)
        sent_s = time.perf_counter()
        response = self._connection.getresponse()
        assert response.status == 200, response.read()
        first_s = 0.0
        for line in response:
            if not first_s and b'"content":"t0' in line.replace(b'": "', b'":"'):
                first_s = time.perf_counter()
        assert first_s
        return (first_s - sent_s) * 1_000

    def close(self) -> None:
        self._connection.close()


def cpu_ms(pid: int) -> float:
    """Processor time that ``pid`` has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1_000 / _TICKS_PER_S


def rss_mb(pid: int) -> float:
    """Resident memory of ``pid``."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES / 1e6


def measure_first_tokens(clients: dict[str, Client], requests: int) -> dict[str, list[float]]:
    """Ask each client in turn, after a round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in clients}
    for number in range(-20, requests):
        for name, client in clients.items():
            took_ms = client.first_token_ms()
            if number >= 0:
                times[name].append(took_ms)
    return times


def measure_cpu(client: Client, pid: int, requests: int, chunks: int) -> tuple[float, float]:
    """Return processor time of ``pid`` in ms for each request, and in us for each further chunk."""
    spent = {}
    for tokens in (1, chunks):
        before = cpu_ms(pid)
        for _ in range(requests):
            client.first_token_ms(tokens)
        spent[tokens] = (cpu_ms(pid) - before) / requests
    return spent[1], (spent[chunks] - spent[1]) / (chunks - 1) * 1_000


def start_time_s(fleet: Fleet, node: str) -> float:
    """Stop an agent, start it again, and return the time from its start to ``/livez``."""
    metrics_port = _metrics_port(fleet, node)
    fleet.kill(node)
    began_s = time.perf_counter()
    fleet.start(node)
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", metrics_port, timeout=5)
        try:
            connection.request("GET", "/livez")
            if connection.getresponse().status == 200:
                return time.perf_counter() - began_s
        except OSError:
            time.sleep(0.005)
        finally:
            connection.close()


def _metrics_port(fleet: Fleet, node: str) -> int:
    facts = json.loads((fleet.state_dir / "fleet.json").read_text())
    return int(next(one["metrics_port"] for one in facts["agents"] if one["node"] == node))


def run(requests: int, chunks: int) -> dict[str, float]:
    """Measure everything and return it by key."""
    with (
        tempfile.TemporaryDirectory(prefix="ef") as folder,
        FakeEngineProcess(MODEL) as engine,
        Fleet(Path(folder) / "f", [engine.url]) as fleet,
    ):
        idle = {agent.node: rss_mb(agent.pid) for agent in fleet.agents()}
        iad, gru = fleet.agent("iad-1"), fleet.agent("gru-1")
        engine.control(tokens=chunks)
        clients = {
            "bare": Client(engine.url, "none", MODEL),
            "local": _client(iad),
            "hop": _client(gru),
        }
        times = measure_first_tokens(clients, requests)
        per_request_ms, per_chunk_us = measure_cpu(clients["local"], iad.pid, requests, chunks)
        hop_request_ms, hop_chunk_us = measure_cpu(clients["hop"], gru.pid, requests, chunks)
        loaded = rss_mb(iad.pid)
        for client in clients.values():
            client.close()
        engine.control()
        started_s = statistics.median(start_time_s(fleet, "gru-1") for _ in range(3))
    bare = times["bare"]
    found = {"requests": float(requests), "bare_ttft_ms_p50": quantile(bare, 0.5)}
    found["bare_ttft_ms_p99"] = quantile(bare, 0.99)
    for name in ("local", "hop"):
        for label, share in (("p50", 0.5), ("p99", 0.99)):
            added = quantile(times[name], share) - quantile(bare, share)
            found[f"{name}_added_ttft_ms_{label}"] = added
    found |= {
        "local_cpu_ms_per_request": per_request_ms,
        "local_cpu_us_per_chunk": per_chunk_us,
        "hop_ingress_cpu_ms_per_request": hop_request_ms,
        "hop_ingress_cpu_us_per_chunk": hop_chunk_us,
        "idle_rss_mb": max(idle.values()),
        "after_load_rss_mb": loaded,
        "start_to_livez_s": started_s,
    }
    return found


def _client(agent: AgentClient) -> Client:
    return Client(agent.url, agent.api_key, agent.model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--chunks", type=int, default=200)
    options = parser.parse_args()
    found = run(options.requests, options.chunks)
    write_report("relay", found)
    for name, value in found.items():
        print(f"{name:32} {value:10.3f}")


if __name__ == "__main__":
    main()
