"""A whole fleet of real processes on this machine, as ``edgeforge up`` starts it.

>>> with FakeEngineProcess("acme") as engine, Fleet(tmp_path / "fleet", [engine.url]) as fleet:
...     assert fleet.agent("gru-1").chat().status == 200
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from coordinator.cli.client import connected
from coordinator.cli.output import as_json
from coordinator.cli.profiles import load_profile
from protos.v1 import admin_pb2
from tests.support.delay_relay import send_fault
from tests.support.fake_engine_process import UnixHTTPConnection
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from types import TracebackType

    from tests.support.fake_engine_process import FakeEngineProcess

COMMANDS = Path(sys.executable).parent
UP_TIMEOUT_S = 170.0
#: With a real engine on a machine that does other things meanwhile.
REAL_UP_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Answer:
    """One whole response."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[str]:
        """The data of every event of a stream."""
        return [
            line.removeprefix("data: ")
            for line in self.body.decode().splitlines()
            if line.startswith("data: ")
        ]


class AgentClient:
    """One agent of a fleet, as its clients and its operator see it."""

    #: By process: the trace of what was last asked of it through ``send``.
    _asked: ClassVar[dict[int, str]] = {}

    def __init__(self, facts: dict[str, Any], api_key: str, model: str) -> None:
        self.node: str = facts["node"]
        self.url: str = facts["url"]
        self.pid: int = facts["pid"]
        self.admin_socket: str = facts["admin"]
        self.api_key = api_key
        self.model = model

    def connect(self, timeout_s: float = 60.0) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)

    def send(
        self,
        body: object,
        *,
        path: str = "/v1/chat/completions",
        headers: dict[str, str] | None = None,
        connection: http.client.HTTPConnection | None = None,
    ) -> Answer:
        """Send one request; a connection of one's own stays open afterwards."""
        used = connection or self.connect()
        given = {"authorization": f"Bearer {self.api_key}", "content-type": "application/json"}
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            used.request("POST", path, payload, given | (headers or {}))
            response = used.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            if (trace_id := names.get("x-edgeforge-trace-id")) is not None:
                self._asked[self.pid] = trace_id
            return Answer(response.status, names, response.read())
        finally:
            if connection is None:
                used.close()

    def chat(self, *, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
        """Ask for a chat completion; ``fields`` are the body's."""
        messages = [{"role": "user", "content": "hello"}]
        return self.send({"model": self.model, "messages": messages} | fields, headers=headers)

    def ask(self, method: str, path: str) -> Any:
        """Ask the administration socket."""
        connection = UnixHTTPConnection(self.admin_socket)
        try:
            connection.request(method, path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        return dict(self.ask("GET", "/status"))

    def digests(self) -> dict[str, tuple[int, int, str]]:
        """Version and digest of every table it holds."""
        tables = self.status()["tables"]
        return {
            kind: (table["epoch"], table["version"], table["digest"])
            for kind, table in tables.items()
        }

    def last_request(self) -> dict[str, Any]:
        """The record of its newest request, once what was asked through ``send`` has ended.

        An answer is complete before its agent has recorded the request.
        """
        return wait_until(self._last_request, 30, f"{self.node} to have ended its last request")

    def _last_request(self) -> dict[str, Any]:
        newest = self.ask("GET", "/requests?limit=20")["requests"]
        asked = self._asked.get(self.pid)
        ended = asked is None or any(one["trace_id"] == asked for one in newest)
        return dict(newest[0]) if ended else {}

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        wait_until(self._is_ready, timeout_s, f"{self.node} to be ready")

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            return bool(self.status()["ready"])
        return False


def _shared_tables(agent: AgentClient) -> dict[str, tuple[int, int, str]]:
    """Version and digest of every table that is the same on all nodes; empty if unreachable."""
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        return {kind: at for kind, at in agent.digests().items() if kind != "desired"}
    return {}


class Fleet:
    """A fleet in ``state_dir`` in front of the engines at ``engine_urls``.

    ``options`` are further ones of ``edgeforge up``: ``--sites 5`` puts distances between agents.
    """

    def __init__(
        self,
        state_dir: Path,
        engine_urls: list[str],
        *options: str,
    ) -> None:
        self.state_dir = state_dir
        self.engine_urls = engine_urls
        self.options = options
        self.facts: dict[str, Any] = {}

    def up(self) -> dict[str, Any]:
        """``edgeforge up``: starts what is missing."""
        argv = ["up", "--detach", "--json", *self.options]
        for url in self.engine_urls:
            argv += ["--engine-url", url]
        self.facts = json.loads(self.edgeforge(*argv, state_dir=True))
        return self.facts

    def down(self) -> None:
        self.edgeforge("down", state_dir=True)

    def edgeforge(self, *argv: str, state_dir: bool = False) -> str:
        """Run the command line against this fleet and return what it printed."""
        where = ["--state-dir", str(self.state_dir)] if state_dir else []
        return self.run([str(COMMANDS / "edgeforge"), *argv, *where])

    def run(self, argv: list[str]) -> str:
        """Run an EdgeForge program as this fleet's operator and return what it printed."""
        done = subprocess.run(
            argv,
            env=os.environ | {"EDGEFORGE_PROFILE": str(self.state_dir / "profile.toml")},
            capture_output=True,
            text=True,
            timeout=UP_TIMEOUT_S if self.engine_urls else REAL_UP_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{argv}: {done.stderr}\n{self.logs()}"
        return done.stdout

    def explain(self, deployment: str, via: str, budget_ms: float = 0.0) -> list[dict[str, Any]]:
        """The candidates that ``route explain --json`` tells; 0: the deployment's own budget.

        A call, not the command: conditions that are waited for ask again and again.
        """
        request = admin_pb2.ExplainRouteRequest(deployment=deployment, via=via, budget_ms=budget_ms)
        with connected(load_profile(self.state_dir / "profile.toml")) as client:
            told = client.call(lambda stub: stub.ExplainRoute, request)
        return [as_json(one) for one in told.candidates]

    def chosen(self, deployment: str, via: str, budget_ms: float = 0.0) -> str:
        """The node on which ``via`` would place a request now; empty if there is none."""
        candidates = self.explain(deployment, via, budget_ms)
        return next((str(one["node_id"]) for one in candidates if one["chosen"]), "")

    def node_info(self, node: str) -> dict[str, Any]:
        """What ``node ls --json`` tells of one node, by a call as ``explain`` is."""
        with connected(load_profile(self.state_dir / "profile.toml")) as client:
            told = client.call(lambda stub: stub.ListNodes, admin_pb2.ListNodesRequest())
        return next(as_json(one) for one in told.nodes if one.node.id == node)

    @property
    def model(self) -> str:
        return str(self.facts["deployments"][0]["name"])

    def agent(self, node: str) -> AgentClient:
        (facts,) = [agent for agent in self.facts["agents"] if agent["node"] == node]
        return AgentClient(facts, self.facts["api_key"], self.model)

    def agents(self) -> list[AgentClient]:
        return [self.agent(facts["node"]) for facts in self.facts["agents"]]

    def pid(self, process: str) -> int:
        """The pid of "coordinator" or of a node's agent."""
        if process == "coordinator":
            return int(self.facts["coordinator"]["pid"])
        return self.agent(process).pid

    def kill(self, process: str) -> None:
        """``kill -9``, and wait until it is gone."""
        pid = self.pid(process)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not _runs(pid), 30, f"{process} to be gone")

    def start(self, process: str) -> None:
        """Start one process again with the configuration it had; ``up`` would start all."""
        from coordinator.devfleet.layout import FleetLayout
        from coordinator.devfleet.processes import program, start_process

        layout = FleetLayout(self.state_dir)
        if process == "coordinator":
            argv = [program("edgeforge-coordinator"), "serve"]
            argv += ["--config", str(layout.coordinator_config)]
            self.facts["coordinator"]["pid"] = start_process(layout, process, argv)
            wait_until(self._coordinator_listens, 60, "the coordinator to listen")
            return
        argv = [program("edgeforge-agent"), "serve", "--config", str(layout.agent_config(process))]
        (facts,) = [agent for agent in self.facts["agents"] if agent["node"] == process]
        facts["pid"] = start_process(layout, process, argv)

    def configure(self, node: str, section: str, **values: object) -> None:
        """Put keys into a section of a node's configuration, and restart its agent."""
        path = self.state_dir / "agents" / f"{node}.toml"
        head, found, tail = path.read_text().partition(f"[{section}]\n")
        body, next_section, rest = tail.partition("\n[")
        kept = [one for one in body.splitlines() if one.partition(" = ")[0] not in values]
        put = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        before = head if found else f"{head}\n"
        lines = "\n".join([f"[{section}]", *put, *kept, ""])
        path.write_text(f"{before}{lines}{next_section}{rest}")
        self.kill(node)
        self.start(node)
        self.wait_caught_up(node)

    def let_embed(self, node: str, engine: FakeEngineProcess) -> None:
        """Start ``engine`` again so that it embeds, tell the agent of ``node``, wait for all."""
        engine.stop()
        engine.embeds = True
        engine.start()
        self.configure(node, "engine", mode="embed")
        body = {"model": engine.model, "input": "a"}
        for agent in self.agents():
            wait_until(
                lambda agent=agent: agent.send(body, path="/v1/embeddings").status == 200,
                30,
                f"{agent.node} to embed",
            )

    def wait_caught_up(self, node: str) -> None:
        """Until ``node``, just started, holds the tables that another holds, not an older image."""
        self.agent(node).wait_ready()
        others = [one for one in self.agents() if one.node != node]
        wait_until(
            lambda: any(_shared_tables(one) == _shared_tables(self.agent(node)) for one in others),
            60,
            f"{node} to hold what others hold",
        )

    def break_link(self, fault: str, source: str, destination: str) -> None:
        """Ask the relay between five sites for one of ``coordinator.devfleet.link_faults``."""
        send_fault(self.state_dir / "relay.sock", fault, source, destination)

    def peer_port(self, node: str) -> int:
        """Where ``node`` listens for its peers."""
        facts = json.loads((self.state_dir / "fleet.json").read_text())
        return int(next(one["peer_port"] for one in facts["agents"] if one["node"] == node))

    def health(self, node: str) -> str:
        """The row of ``node`` in the coordinator's table."""
        return str(self.node_info(node)["node"]["health"]).removeprefix("NODE_HEALTH_").lower()

    def _coordinator_listens(self) -> bool:
        host, _, port = str(self.facts["coordinator"]["grpc"]).rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            return True
        return False

    def image_versions(self, node: str) -> dict[str, tuple[int, int]]:
        """What the newest table image on ``node``'s disk holds."""
        from agent.link.table_files import decode_image

        images = sorted((self.state_dir / "agents" / node / "tables").rglob("table-*.img"))
        if not images:
            return {}
        tables = decode_image(images[-1].read_bytes()).tables
        return {table.type.value: (table.at.epoch, table.at.version) for table in tables}

    def metrics(self, process: str) -> str:
        """The metrics of "coordinator" or of a node's agent."""
        from coordinator.devfleet.layout import FleetLayout

        layout = FleetLayout(self.state_dir)
        path = layout.agent_config(process) if process != "coordinator" else None
        facts = tomllib.loads((path or layout.coordinator_config).read_text())
        port = facts["metrics" if path else "http"]["port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            return str(answer.read().decode())

    def log(self, process: str) -> str:
        return (self.state_dir / "logs" / f"{process}.log").read_text("utf-8", errors="replace")

    def logs(self) -> str:
        """The end of every log, for a failed test."""
        parts = []
        for path in sorted((self.state_dir / "logs").glob("*.log")):
            lines = path.read_text("utf-8", errors="replace").splitlines()[-25:]
            parts.append("\n".join([f"== {path.name}", *lines]))
        return "\n".join(parts)

    def processes(self) -> list[int]:
        """Every EdgeForge process whose command line names this fleet's folder."""
        from coordinator.devfleet.layout import FleetLayout
        from coordinator.devfleet.processes import leftovers

        return leftovers(FleetLayout(self.state_dir))

    def __enter__(self) -> Fleet:
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            print(self.logs())
        self.down()
        left = self.processes()
        assert not left, f"left behind: {left}"


def _runs(pid: int) -> bool:
    """Whether ``pid`` runs; a zombie does not.

    Killed, its first thread may be a zombie while others still hold its ports.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X") or threads > 1
