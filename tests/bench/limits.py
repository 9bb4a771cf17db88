"""What strangers and hostile bodies cost an agent: its loop's stalls, its memory, its clients.

    make bench BENCH=limits
    python -m tests.bench.limits [--repeats N] [--rows stall,memory,connects,share]

A fleet of two agents as ``edgeforge up`` starts it: IAD has the engine (the tests' double), GRU
places everything on IAD over mutual TLS. Rows:

*stall*: each body is sent ``--repeats`` times to IAD, and once to GRU, while ``/livez`` is asked
without pause. A stall is how long one such question took, or how much processor time the agent's
event loop used meanwhile if that is less: what other programs of this machine do is left out. Of
the repeats of one body the least counts.

*memory*: resident memory before and after 100 connections without a key that send 8 MiB less one
byte. *connects*: what requests of a customer take while another address opens 10,000 connections
to the peer port, and to the client port, and sends nothing. *share*: what a second tenant gets,
from ``tests.bench.limits_fairness``.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import http.client
import json
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.bench.limits_fairness import second_tenant_share
from tests.bench.relay import rss_mb
from tests.bench.report import quantile, write_report
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Fleet
from tests.support.waiting import wait_until

MODEL = "acme-chat"
BODY_BYTES = 8 * 1024 * 1024
KEYLESS = 100
CONNECTS = 10_000
#: Descriptors of the agents: fewer than the connections that are opened.
AGENT_DESCRIPTORS = 8_192
#: Where strangers come from; customers come from 127.0.0.1.
STRANGER = "127.0.0.66"
TARGET_STALL_MS = 20.0
_CHAT, _COMPLETIONS, _EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
_MESSAGES, _RESPONSES = "/v1/messages", "/v1/responses"
_SAY_HI = b'"messages":[{"role":"user","content":"hi"}]'

#: Opens connections as fast as it can, keeps them, and says how many there were.
_FLOOD = """
import socket, sys
source, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
opened = []
for _ in range(count):
    try:
        opened.append(socket.create_connection(("127.0.0.1", port), 10, (source, 0)))
    except OSError:
        pass
sys.stdin.readline()
print(len(opened))
"""

Body = tuple[str, bytes, dict[str, str]]


def _filled(before: bytes, unit: bytes, after: bytes, between: bytes = b"") -> bytes:
    """Return ``before``, as many units as fit the body limit, and ``after``."""
    room = BODY_BYTES - 64 - len(before) - len(after)
    count = room // (len(unit) + len(between))
    return before + between.join([unit] * count) + after


def _field(unit: bytes, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    """Return a chat body with one further field full of units."""
    before = b'{"model":"acme-chat",' + _SAY_HI + b',"metadata":' + opening
    return _filled(before, unit, closing + b"}", b",")


def _said(unit: bytes) -> bytes:
    """Return a chat body with one message full of units."""
    before = b'{"model":"acme-chat","max_tokens":2,"messages":[{"role":"user","content":"'
    return _filled(before, unit, b'"}]}')


def _cut(unit: bytes, share: float = 1.0) -> bytes:
    """Return a chat body with a text full of units that the engine is to cut: it is accepted."""
    before = b'{"model":"acme-chat","truncate_prompt_tokens":9,"messages":['
    before += b'{"role":"user","content":"'
    padding = b"a" * int(BODY_BYTES * (1.0 - share))
    return _filled(before + padding, unit, b'"}]}')


def _some(unit: bytes, count: int) -> bytes:
    """Return a chat body with so many units, or fields, and an image that fills the rest."""
    units = [unit or b'{"%07d":1}' % number for number in range(count)]
    field = b",".join(units)
    if not unit:
        field = b"{" + field.replace(b"{", b"").replace(b"}", b"") + b"}"
    before = b'{"model":"acme-chat","user":[%b],"metadata":"' % field
    return _filled(before, b"iVBO", b'",' + _SAY_HI + b"}")


def hostile_bodies() -> dict[str, Body]:
    """Return bodies near the limit, by what they consist of."""
    listed = b'{"model":"acme-chat","messages":['
    keys = b",".join(b'"%07d":1' % number for number in range(BODY_BYTES // 13))
    image = b'[{"type":"image_url","image_url":{"url":"data:image/png;base64,'
    bodies = {
        "small numbers": _field(b"1"),
        "lists in lists": _filled(b'{"model":"acme-chat","metadata":', b"[", b""),
        "closed lists in lists": _filled(
            b'{"model":"acme-chat","metadata":', b"[", b"]" * (BODY_BYTES // 2) + b"}"
        )[: BODY_BYTES - 64],
        "empty lists": _field(b"[]"),
        "empty objects": _field(b"{}"),
        "small objects": _field(b'{"a":1}'),
        "objects in lists": _field(b'[{"a":[]}]'),
        "small texts": _field(b'"a"'),
        "keys": b'{"model":"acme-chat",' + _SAY_HI + b',"metadata":{' + keys + b"}}",
        "one key again": _field(b'"a":1', b"{", b"}"),
        "floats": _field(b"1.2345678901234567e-300"),
        "one text": _said(b"a"),
        "escapes": _said(b"\\n"),
        "quotes in a text": _said(b'\\"'),
        "commas in a text": _said(b"[,{:"),
        "unicode escapes": _said(b"\\u00e9"),
        "surrogate pairs": _said(b"\\ud83d\\ude00"),
        "chinese": _said("中".encode()),
        "emoji": _said("😀".encode()),
        "messages": _filled(listed, b'{"role":"user","content":"hi"}', b"]}", b","),
        "numbers as messages": _filled(listed, b"1", b"]}", b","),
        "lists as messages": _filled(listed, b"[[]]", b"]}", b","),
        "long messages": _filled(
            listed, b'{"role":"user","content":"' + b"a\\n" * 20_000 + b'"}', b"]}", b","
        ),
        "tools": _filled(
            b'{"model":"acme-chat",' + _SAY_HI + b',"tools":[',
            b'{"type":"function","function":{"name":"a"}}',
            b"]}",
            b",",
        ),
        "image": _filled(listed + b'{"role":"user","content":' + image, b"iVBO", b'"}}]}]}'),
        "images": _filled(
            listed + b'{"role":"user","content":[',
            b'{"type":"image_url","image_url":{"url":"data:,a"}}',
            b"]}]}",
            b",",
        ),
        "accepted text": _cut(b"a"),
        "accepted escapes": _cut(b"\\n", 0.17),
        "accepted unicode escapes": _cut(b"\\u00e9"),
        "accepted emoji": _cut("😀".encode()),
        "accepted numbers": _some(b"1", 300_000),
        "accepted small texts": _some(b'"a"', 24_000),
        "accepted objects": _some(b'{"a":[]}', 8_000),
        "accepted keys": _some(b"", 24_000),
        "long number": _filled(b'{"model":"acme-chat","n":', b"1", b"}"),
        "spaces": _filled(b'{"model":"acme-chat",' + _SAY_HI, b" ", b"}"),
        "no JSON": b"x" * (BODY_BYTES - 64),
        "UTF-8 broken at its end": _said(b"a")[:-4] + b'\xff"}]}',
        "Chinese, then cut off": _said("中".encode())[:-5],
    }
    found: dict[str, Body] = {name: (_CHAT, body, {}) for name, body in bodies.items()}
    tokens = b'{"model":"acme-chat","%b":['
    found["token prompt"] = (_COMPLETIONS, _filled(tokens % b"prompt", b"1", b"]}", b","), {})
    numbers = [b"1", b"1.2345678901234567"]
    for name, unit in zip(("tokens", "floats"), numbers, strict=True):
        listed = b",".join([unit] * 300_000)
        for path, field in ((_COMPLETIONS, b"prompt"), (_EMBEDDINGS, b"input")):
            before = b'{"model":"acme-chat","truncate_prompt_tokens":9,"%b":[%b],"user":"'
            body = _filled(before % (field, listed), b"a", b'"}')
            found[f"accepted {name} as {field.decode()}"] = (path, body, {})
    found["text prompt"] = (
        _COMPLETIONS,
        _filled(b'{"model":"acme-chat","prompt":"', b"\\n", b'"}'),
        {},
    )
    found["token input"] = (_EMBEDDINGS, _filled(tokens % b"input", b"1", b"]}", b","), {})
    found["token inputs"] = (_EMBEDDINGS, _filled(tokens % b"input", b"[1]", b"]}", b","), {})
    found["Messages"] = (
        _MESSAGES,
        _said(b"a\\n").replace(b'"max_tokens":2', b'"max_tokens":9'),
        {},
    )
    found["Responses"] = (
        _RESPONSES,
        _filled(b'{"model":"acme-chat","input":[', b'{"role":"user","content":"hi"}', b"]}", b","),
        {},
    )
    bomb = _field(b"[]")
    found["gzip of empty lists"] = (_CHAT, gzip.compress(bomb), {"content-encoding": "gzip"})
    big = zlib.compress(_said(b"a") + b" " * (64 * 1024 * 1024))
    found["a bomb of 64 MiB"] = (_CHAT, big, {"content-encoding": "deflate"})
    return found


class LoopWatch:
    """Asks ``/livez`` without pause; remembers the longest stall since it was last asked."""

    def __init__(self, agent: AgentClient) -> None:
        parts = urlsplit(agent.url)
        assert parts.hostname is not None
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=60)
        self._ticks = Path(f"/proc/{agent.pid}/task/{agent.pid}/schedstat")
        self._longest_ms = 0.0
        self._asked = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> LoopWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    def longest_ms(self) -> float:
        """Return the longest stall since the last call, after one more question was answered."""
        asked = self._asked
        wait_until(lambda: self._asked > asked + 1, 60, "an answer of /livez")
        longest, self._longest_ms = self._longest_ms, 0.0
        return longest

    def _run(self) -> None:
        while not self._over.is_set():
            cpu_ms, began_s = self._cpu_ms(), time.perf_counter()
            self._socket.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            answer = self._socket.recv(65_536)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"/livez: {answer[:200]!r}")
            took_ms = (time.perf_counter() - began_s) * 1_000
            self._longest_ms = max(self._longest_ms, min(took_ms, self._cpu_ms() - cpu_ms))
            self._asked += 1
            time.sleep(0.000_5)

    def _cpu_ms(self) -> float:
        return int(self._ticks.read_text().split()[0]) / 1e6


def measure_stalls(agents: dict[str, AgentClient], repeats: int) -> dict[str, Any]:
    """Send each body to each agent; return status and longest stall of each, in ms."""
    found: dict[str, Any] = {}
    for where, agent in agents.items():
        rows = found[where] = {}
        with LoopWatch(agents["iad-1"]) as serving, LoopWatch(agent) as asked:
            for name, (path, body, headers) in hostile_bodies().items():
                stalls = []
                status = 0
                for _ in range(repeats):
                    serving.longest_ms()
                    asked.longest_ms()
                    with contextlib.suppress(OSError, http.client.HTTPException):
                        status = agent.send(body, path=path, headers=headers).status
                    stalls.append(max(serving.longest_ms(), asked.longest_ms()))
                rows[name] = {"status": status, "stall_ms": round(min(stalls), 1)}
                print(f"  {where:6} {name:26} {status:4} {min(stalls):8.1f} ms", flush=True)
    return found


@contextlib.contextmanager
def _sockets(
    count: int, address: tuple[str, int], source: str, first: bytes = b""
) -> Iterator[list[socket.socket]]:
    """Open up to ``count`` connections from ``source`` and send ``first`` on each."""
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            with contextlib.suppress(OSError):
                one = socket.create_connection(address, timeout=10, source_address=(source, 0))
                opened.append(one)
                if first:
                    one.settimeout(0.5)
                    one.sendall(first)
        yield opened
    finally:
        for one in opened:
            one.close()


def measure_memory(agent: AgentClient) -> dict[str, float]:
    """Return resident memory before and while strangers hold unfinished bodies, in MB."""
    parts = urlsplit(agent.url)
    assert parts.hostname is not None
    assert parts.port is not None
    before_mb = rss_mb(agent.pid)
    body = b'{"model":"acme-chat","x":"' + b"a" * (BODY_BYTES - 27)
    head = f"POST {_CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body) + 1}\r\n\r\n"
    address = (parts.hostname, parts.port)
    with _sockets(KEYLESS, address, STRANGER, head.encode() + body):
        time.sleep(1.0)
        return {"before_mb": before_mb, "meanwhile_mb": rss_mb(agent.pid)}


def measure_connects(agent: AgentClient, ports: dict[str, int]) -> dict[str, Any]:
    """Return what a customer's requests take while a stranger opens connections."""
    found: dict[str, Any] = {"alone": _ask_for(agent, 3.0)}
    for name, port in ports.items():
        before_mb = rss_mb(agent.pid)
        argv = [sys.executable, "-c", _FLOOD, STRANGER, str(port), str(CONNECTS)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as flood:
            figures = _ask_for(agent, 10.0)
            held_mb = rss_mb(agent.pid) - before_mb
            said, _ = flood.communicate(b"\n")
        found[name] = figures | {"opened": int(said), "held_mb": round(held_mb, 1)}
        _ask_for(agent, 1.0)
    return found


def _ask_for(agent: AgentClient, seconds: float) -> dict[str, float]:
    """Ask for completions for so long, each on a connection of its own."""
    took_ms: list[float] = []
    failed = 0
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        began_s = time.perf_counter()
        try:
            connection = agent.connect(timeout_s=5.0)
            try:
                body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
                failed += agent.send(body, connection=connection).status != 200
            finally:
                connection.close()
        except (OSError, http.client.HTTPException):
            failed += 1
        took_ms.append((time.perf_counter() - began_s) * 1_000)
        time.sleep(0.01)
    return {
        "requests": len(took_ms),
        "failed": failed,
        "p50_ms": round(quantile(took_ms, 0.5), 1),
        "p99_ms": round(quantile(took_ms, 0.99), 1),
        "max_ms": round(max(took_ms), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", default="stall,memory,connects,share")
    args = parser.parse_args()
    rows = args.rows.split(",")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(AGENT_DESCRIPTORS, hard), hard))
    figures: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        FakeEngineProcess(MODEL) as engine,
        Fleet(Path(folder) / "fleet", [engine.url]) as fleet,
    ):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        near, far = fleet.agent("iad-1"), fleet.agent("gru-1")
        if "memory" in rows:
            figures["memory"] = measure_memory(near)
            print("memory", figures["memory"], flush=True)
        if "connects" in rows:
            client_port = urlsplit(near.url).port
            assert client_port is not None
            ports = {"peer port": fleet.peer_port("iad-1"), "client port": client_port}
            figures["connects"] = measure_connects(near, ports)
            print("connects", json.dumps(figures["connects"], indent=1), flush=True)
        if "stall" in rows:
            stalls = measure_stalls({"iad-1": near, "gru-1": far}, args.repeats)
            figures["stall"] = stalls
            figures["loop_stall_ms_max"] = max(
                row["stall_ms"] for by_name in stalls.values() for row in by_name.values()
            )
            print("loop_stall_ms_max", figures["loop_stall_ms_max"], "target", TARGET_STALL_MS)
    if "share" in rows:
        figures["second_tenant"] = second_tenant_share()
        print("second tenant", figures["second_tenant"])
    write_report("limits", figures)


if __name__ == "__main__":
    main()
