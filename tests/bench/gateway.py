"""One agent under the gateway harness, beside the Rust vllm-router and nginx in the same run.

    make bench BENCH=gateway
    python -m tests.bench.gateway [--harness FOLDER] [--rounds N] [--scale X] [--rows tls,hop]
                                  [--agent NAME=PROGRAM ...]

The harness (by default ``../shared/bench/gateway`` beside the repository) starts each target on one
core, its mock engine and load on the other, and interleaves rounds. The target is one agent with
everything on: key check, placement, token counts, trace. What it needs stands beside it and is not
counted: a coordinator, and a peer agent with a second engine, to which requests go when the first
engine dies. Rows: ``edgeforge`` plaintext; ``edgeforge-tls`` client TLS (nginx on the load's core
puts the load into TLS); ``edgeforge-hop`` everything placed on a peer over mutual TLS; and one for
each ``--agent``, such as ``compiled=.venv-compiled/bin/edgeforge-agent``, in the same rounds.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.fleet import COMMANDS, Fleet
from tests.support.waiting import wait_until

REPORT = Path(".bench") / "gateway.json"
#: The harness's own figures of the same run.
RAW = Path(".bench") / "gateway-raw.json"
HARNESS = Path("..") / "shared" / "bench" / "gateway"
NGINX = "/usr/sbin/nginx"
ENGINE_PORTS = (18001, 18002)
#: The harness's port of every target, and ours behind nginx.
TARGET_PORT, TLS_PORT = 19100, 19101
LOAD_CPU = "0"
#: The agent under test has the first engine, its peer the second.
LOCAL, PEER = "iad-1", "gru-1"
#: The harness kills an engine before its first byte: of a whole answer, and of a stream.
KILLS = ("pre_nonstream", "pre_stream")
TARGETS = {
    "cpu_ms_per_request": 0.15,
    "cpu_us_per_chunk_200": 45.0,
    "added_ttft_ms_p50": 0.4,
    "added_ttft_ms_p99_200": 5.0,
    "rss_mb": 150.0,
    "failover_added_ms": 100.0,
    "all_dead_ms": 50.0,
    "recovery_s": 3.0,
}
_MOCK_PROFILE = """max_parallel = 1024
tokens_per_s = 100000.0
first_token_ms_p99 = 5.0
prefill_ms_per_token = 0.001
"""
#: Added to the harness's loads: one process is to carry a whole host, 20,000 tokens a second.
_LOADS = '"s200": (200, 20000)}'
_HOST_LOAD = ', "s400": (400, 20000)}'
_TLS_FRONT = """
user root; worker_processes 1; daemon on; pid {tmp}/nginx.pid; error_log {tmp}/err.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 10000000;
  client_body_temp_path {tmp}/b; proxy_temp_path {tmp}/p; fastcgi_temp_path {tmp}/f;
  uwsgi_temp_path {tmp}/u; scgi_temp_path {tmp}/s;
  upstream u {{ server 127.0.0.1:%d; keepalive 512; keepalive_requests 10000000; }}
  server {{ listen 127.0.0.1:{port};
    location / {{ proxy_pass https://u; proxy_http_version 1.1; proxy_set_header Connection "";
                  proxy_ssl_verify off; proxy_buffering off; proxy_read_timeout 300s; }} }}
}}
"""


class Harness:
    """A copy of the harness with our targets added."""

    def __init__(self, source: Path, scratch: Path) -> None:
        self.folder = scratch / "harness"
        self._scratch = scratch
        self.folder.mkdir()
        for name in ("run.py", "upstream.c", "loadgen.c", "targets.toml"):
            shutil.copy(source / name, self.folder / name)
        script = self.folder / "run.py"
        text = script.read_text()
        if _LOADS not in text:
            raise SystemExit(f"{source}: not the harness that this benchmark knows")
        script.write_text(text.replace(_LOADS, _LOADS[:-1] + _HOST_LOAD))
        self._engine = scratch / "upstream"
        build = ["gcc", "-O2", "-w", "-o", str(self._engine), str(self.folder / "upstream.c")]
        subprocess.run(build, check=True)

    @contextmanager
    def engines(self) -> Iterator[None]:
        """Both mock engines, on the load's core."""
        running = [
            subprocess.Popen(["taskset", "-c", LOAD_CPU, str(self._engine), str(port), str(number)])
            for number, port in enumerate(ENGINE_PORTS, 1)
        ]
        try:
            for port in ENGINE_PORTS:
                wait_until(lambda port=port: _answers(port), 10, "a mock engine")
            yield
        finally:
            for process in running:
                process.kill()
                process.wait()

    def add(self, name: str, command: str, api_key: str, model: str, config: str = "") -> None:
        """Add a target."""
        lines = [
            f"[target.{name}]",
            f"cmd = {json.dumps(command)}",
            'health = "/v1/models"',
            f"model = {json.dumps(model)}",
            f"headers = [{json.dumps('Authorization: Bearer ' + api_key)}]",
        ]
        if config:
            lines.append(f'config = """{config}"""')
        with (self.folder / "targets.toml").open("a") as file:
            file.write("\n" + "\n".join(lines) + "\n")

    def run(self, targets: list[str], rounds: int, failure_rounds: int, scale: float) -> Any:
        """Measure ``targets`` and return what the harness wrote."""
        out = self._scratch / "-".join(["out", *targets, str(failure_rounds)])
        argv = [sys.executable, "run.py", "--targets", ",".join(targets), "--out", str(out)]
        argv += ["--rounds", str(rounds), "--failure-rounds", str(failure_rounds)]
        environment = os.environ | {"GWBENCH_TMP": str(self._scratch / "gwbench")}
        argv += ["--scale", str(scale)]
        subprocess.run(argv, cwd=self.folder, env=environment, check=True, stdout=sys.stderr)
        found = json.loads(out.with_suffix(".json").read_text())
        if found["skipped"]:
            raise SystemExit(f"not measured: {found['skipped']}")
        return found


def fix_ports(fleet: Fleet) -> None:
    """Move the agents' ports to where no connection of the load's may stand in their way."""
    for number, node in enumerate((LOCAL, PEER)):
        path = _config(fleet, node)
        text = path.read_text()
        for section, first in (("peer", 19110), ("metrics", 19120)):
            text = re.sub(
                rf"(\[{section}\]\n(?:[^\[].*\n)*?port = )\d+", rf"\g<1>{first + number}", text
            )
        path.write_text(text)


def calibrate(fleet: Fleet) -> None:
    """Say of both engines what the mock can do.

    Taken for an engine of eight places, as an agent's defaults have it, half of a crowd's requests
    would go to the peer: that is the hop row's to measure.
    """
    for node in (LOCAL, PEER):
        path = _config(fleet, node)
        path.write_text(path.read_text().replace("[engine]\n", "[engine]\n" + _MOCK_PROFILE))


def agent_command(config: Path, program: str = str(COMMANDS / "edgeforge-agent")) -> str:
    return shlex.join([*shlex.split(program), "serve", "--config", str(config)])


def with_client(fleet: Fleet, node: str, name: str, **client: object) -> Path:
    """Write ``node``'s configuration again with other keys of ``[client]``; return the file."""
    path = fleet.state_dir / "agents" / f"{node}.toml"
    head, _, rest = path.read_text().partition("[client]\n")
    _, _, tail = rest.partition("\n[")
    keys = "".join(f"{key} = {json.dumps(value)}\n" for key, value in client.items())
    written = fleet.state_dir / "agents" / f"{name}.toml"
    written.write_text(f'{head}[client]\nhost = "127.0.0.1"\n{keys}\n[{tail}')
    return written


@contextmanager
def peer_agent(fleet: Fleet, node: str) -> Iterator[None]:
    """``node``'s agent, on the load's core."""
    command = ["taskset", "-c", LOAD_CPU, *shlex.split(agent_command(_config(fleet, node)))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Measure every row and return the harness's raw figures by row group."""
    harness = Harness(options.harness, scratch)
    rows = options.rows.split(",")
    peers = [name for name in options.peers.split(",") if name]
    found: dict[str, Any] = {}
    fleet = Fleet(scratch / "f", [f"http://127.0.0.1:{port}" for port in ENGINE_PORTS])
    try:
        with harness.engines():
            fleet.up()
        for node in (LOCAL, PEER):
            fleet.kill(node)
        fix_ports(fleet)
        calibrate(fleet)
        key, model = fleet.facts["api_key"], fleet.model
        plain = with_client(fleet, LOCAL, "plain", port=TARGET_PORT)
        harness.add("edgeforge", agent_command(plain), key, model)
        others = dict(one.split("=", 1) for one in options.agent)
        for name, program in others.items():
            harness.add(name, agent_command(plain, os.path.abspath(program)), key, model)
        tls = _tls_target(fleet, scratch)
        harness.add("edgeforge-tls", tls, key, model, _TLS_FRONT % TLS_PORT)
        hop = with_client(fleet, PEER, "hop", port=TARGET_PORT)
        harness.add("edgeforge-hop", agent_command(hop), key, model)
        with peer_agent(fleet, PEER):
            local = ["edgeforge", *others, *(["edgeforge-tls"] if "tls" in rows else [])]
            found["local"] = harness.run(
                ["direct", *peers, *local], options.rounds, 0, options.scale
            )
            if options.failure_rounds:
                found["failure"] = harness.run(["edgeforge"], 0, options.failure_rounds, 1.0)
        if "hop" in rows:
            with peer_agent(fleet, LOCAL):
                targets = ["direct", "edgeforge-hop"]
                found["hop"] = harness.run(targets, options.rounds, 0, options.scale)
        if options.failure_rounds:
            with harness.engines():
                found["needs_ms"] = {name: _needs_ms(name == "pre_stream") for name in KILLS}
    finally:
        fleet.down()
    return found


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """Return the report: our keys at the top, every target's beside them."""
    by_target: dict[str, dict[str, float]] = {}
    for group in ("local", "hop"):
        if group in found:
            rounds = found[group]["rounds"]
            for name in rounds:
                if name != "direct":
                    by_target[name] = figures(rounds[name], rounds["direct"])
    report: dict[str, Any] = dict(by_target["edgeforge"])
    if "failure" in found:
        report |= failures(found["failure"]["failure"]["edgeforge"], found["needs_ms"])
    return report | {"targets": by_target}


def figures(rounds: list[Any], direct: list[Any]) -> dict[str, float]:
    """Return the medians over ``rounds`` of one target, beside ``direct``."""

    def median(of: Any, among: list[Any] = rounds) -> float:
        return float(statistics.median(of(one) for one in among))

    def cpu_us_per_chunk(streams: str) -> float:
        # a target that is overloaded may pass on nothing in a round
        return median(
            lambda one: 1e6 * one[streams]["proxy_cpu_s"] / (one[streams]["all_chunks"] or math.nan)
        )

    def added_ttft_ms_p99(streams: str) -> float:
        def ttft_us_p99(one: Any) -> float:
            return float(one[streams]["ttft"]["p99"])

        return (median(ttft_us_p99) - median(ttft_us_p99, direct)) / 1e3

    return {
        "cpu_ms_per_request": median(
            lambda one: 1e3 * one["nonstream"]["proxy_cpu_s"] / one["nonstream"]["all_ok"]
        ),
        "cpu_us_per_chunk_8": cpu_us_per_chunk("s8"),
        "cpu_us_per_chunk_64": cpu_us_per_chunk("s64"),
        "cpu_us_per_chunk_200": cpu_us_per_chunk("s200"),
        "cpu_us_per_chunk_400": cpu_us_per_chunk("s400"),
        "tokens_per_s_200": median(lambda one: one["s200"]["cps"]),
        "tokens_per_s_400": median(lambda one: one["s400"]["cps"]),
        "core_percent_400": median(lambda one: one["s400"]["cpu1"]),
        "requests_per_s": median(lambda one: one["nonstream"]["rps"]),
        "added_ttft_ms_p50": median(lambda one: one["unloaded"]["diff"]["p50"]) / 1e3,
        "added_ttft_ms_p99": median(lambda one: one["unloaded"]["diff"]["p99"]) / 1e3,
        "added_ttft_ms_p99_200": added_ttft_ms_p99("s200"),
        "added_ttft_ms_p99_400": added_ttft_ms_p99("s400"),
        "rss_mb": max(
            one[streams]["rss_mb"] for one in rounds for streams in ("s64", "s200", "s400")
        ),
        "errors": sum(_errors(one) for one in rounds),
    }


def failures(trials: list[Any], needs_ms: dict[str, float]) -> dict[str, float]:
    """Return the worst of ``trials``; a trial that did not end as it must stops the benchmark."""
    added = []
    for one in trials:
        for name in KILLS:
            got = one[name]
            if not got["valid"] or got["status"] != 200:
                raise SystemExit(f"{name} was not served by the other engine: {got}")
            added.append(got["ms_after_kill"] - needs_ms[name])
        for name in ("all_dead", "all_dead_stream"):
            if one[name]["status"] != 503:
                raise SystemExit(f"{name}: {one[name]}")
    dead = [one[name]["ms"] for one in trials for name in ("all_dead", "all_dead_stream")]
    return {
        "failover_added_ms": max(added),
        "all_dead_ms": max(dead),
        "recovery_s": max(_recovery_s(one) for one in trials),
        "next_20_ok": min(one["after_kill"]["ok"] for one in trials),
    }


def print_table(report: dict[str, Any]) -> None:
    targets = report["targets"]
    print(f"{'':24}" + "".join(f"{name:>16}" for name in targets) + f"{'target':>10}")
    for key in targets["edgeforge"]:
        values = "".join(f"{targets[name][key]:16.3f}" for name in targets)
        print(f"{key:24}{values}" + (f"{TARGETS[key]:>10}" if key in TARGETS else ""))
    for key in ("failover_added_ms", "all_dead_ms", "recovery_s", "next_20_ok"):
        if key in report:
            print(f"{key:24}{report[key]:16.3f}{TARGETS.get(key, ''):>10}")


def _errors(one: Any) -> int:
    streams = [one[name] for name in ("s8", "s64", "s200", "s400")]
    counted = [run["err"] + run["bad_status"] for run in (one["nonstream"], *streams)]
    return sum(counted) + sum(run["no_done"] for run in streams)


def _recovery_s(trial: Any) -> float:
    """Return how long it was until an engine that is back was used; never is infinite."""
    return float("inf") if trial["recovery_s"] is None else float(trial["recovery_s"])


def _config(fleet: Fleet, node: str) -> Path:
    return fleet.state_dir / "agents" / f"{node}.toml"


def _tls_target(fleet: Fleet, scratch: Path) -> str:
    """Return the command of an agent with client TLS, and of nginx before it."""
    cert, key = scratch / "client.pem", scratch / "client.key"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    argv += ["-nodes", "-days", "2", "-subj", "/CN=localhost"]
    argv += ["-keyout", str(key), "-out", str(cert)]
    subprocess.run(argv, check=True, capture_output=True)
    config = with_client(fleet, LOCAL, "tls", port=TLS_PORT, cert_file=str(cert), key_file=str(key))
    # nginx leaves the process group, so that its time is not counted for the agent.
    front = f"taskset -c {LOAD_CPU} {NGINX} -p {{tmp}} -c {{cfg}}"
    stop = "trap : TERM; wait; kill $(cat {tmp}/nginx.pid); wait"
    return f"sh -c {shlex.quote(f'{front}; {agent_command(config)} & {stop}')}"


def _needs_ms(stream: bool) -> float:
    """Time the request that the harness kills an engine under, with nothing between."""
    prompt = "Hello. @@n=8,g=5000,f=1500000@@"
    body = {"model": "mock", "stream": stream, "messages": [{"role": "user", "content": prompt}]}
    connection = http.client.HTTPConnection("127.0.0.1", ENGINE_PORTS[0], timeout=20)
    began_s = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    connection.getresponse().read()
    connection.close()
    return (time.perf_counter() - began_s) * 1e3


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--harness", type=Path, default=HARNESS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--failure-rounds", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--peers", default="vllm-router,nginx", help="of the harness's targets")
    parser.add_argument("--rows", default="tls,hop", help="beside the plaintext one")
    parser.add_argument(
        "--agent", action="append", default=[], help="NAME=PROGRAM: another build's edgeforge-agent"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ef") as folder:
        found = measure(options, Path(folder))
    REPORT.parent.mkdir(exist_ok=True)
    RAW.write_text(json.dumps(found) + "\n")
    report = summary(found)
    REPORT.write_text(json.dumps(report, indent=1) + "\n")
    print_table(report)


if __name__ == "__main__":
    main()
