"""A customer's fleet of real processes: a coordinator with its hub, two nodes with fake engines.

``mad-1`` (MAD, edge) and ``fra-1`` (FRA, regional), of one zone, each supervise a fake vLLM that
loads adapters and swaps weights. The account acme has a key; another hub, on loopback, is what
``hf://`` names.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.agent_process import AgentProcess
from tests.support.coordinator_process import CoordinatorProcess
from tests.support.fake_hub import FakeHub, fake_hub
from tests.support.fake_vllm import fake_environment
from tests.support.fleet import AgentClient, Answer
from tests.support.ports import free_ports
from tests.support.registry_cases import Files, base_files
from tests.support.waiting import wait_until

ACCOUNT = "acme"
SITES = {"mad-1": ("MAD", "edge", "EU"), "fra-1": ("FRA", "regional", "EU")}
_COMMANDS = Path(sys.executable).parent
_TIMEOUT_S = 90


class Journey:
    """The fleet, as its customer and its operator use it."""

    def __init__(
        self,
        folder: Path,
        upstream: FakeHub,
        weights_delay_ms: float = 0,
        limits: str = "",
        coordinator: str = "",
    ) -> None:
        self.folder, self.upstream = folder, upstream
        self._limits = limits
        self._behaviour = {"weights_delay_ms": weights_delay_ms}
        (self.hub_port,) = free_ports(1)
        self.coordinator = CoordinatorProcess(
            folder,
            f"[hub]\nenabled = true\nport = {self.hub_port}\n"
            f'[upstream]\nendpoint = "{upstream.endpoint}"\n'
            f"allow_private_endpoint = true\npoll_s = 1\n{coordinator}",
        )
        self.key_file = folder / "acme.key"
        self.environments = {name: folder / f"engine-{name}" for name in SITES}
        self.nodes: dict[str, AgentProcess] = {}

    def start(self) -> None:
        """Start the coordinator, enrol the nodes, and give the account its key."""
        self.coordinator.init_here()
        self.seed()
        self.coordinator.start()
        self.key_file.touch(0o600)
        self.key_file.write_text(self.open_account() + "\n")
        for name, (pop, tier, zone) in SITES.items():
            where = ("--latitude=50.1", "--longitude=8.7")
            self.edgeforge("pop", "create", pop, "--tier", tier, "--zone", zone, *where)
            token = self.edgeforge("node", "token", "create", "--pop", pop, "--node", name)
            self._start_node(name, token.strip())
        for name in SITES:
            self.client(name).wait_ready()

    def seed(self) -> None:
        """Do what is done to the coordinator's state before its start."""

    def open_account(self) -> str:
        """Make the account, and return its key."""
        self.edgeforge("account", "create", ACCOUNT)
        made = json.loads(self.edgeforge("key", "create", "--account", ACCOUNT, "--json"))
        return str(made["api_key"])

    def _start_node(self, name: str, token: str) -> None:
        environment = fake_environment(
            self.environments[name], children=0, first_behaviour=self._behaviour
        )
        extra = (
            f'[engine]\nkind = "vllm"\nvenv = "{environment}"\naccelerator = "cpu"\n'
            "kv_cache_gib = 1\nmax_context_tokens = 2048\n"
            f"[limits]\ndrain_timeout_ms = 2000\n{self._limits}"
        )
        enrolment = self.coordinator.address("enrolment")
        node = AgentProcess(self.folder / name, enrolment=enrolment, extra=extra)
        done = node.enroll(token)
        assert done.returncode == 0, done.stderr
        self.nodes[name] = node
        node.start()

    def stop(self) -> None:
        """End every process."""
        for node in self.nodes.values():
            node.stop()
        self.coordinator.stop()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``edgeforge`` as the operator and return what it left."""
        profile = self.coordinator.operator_dir / "profile.toml"
        return subprocess.run(
            [_COMMANDS / "edgeforge", "--profile", profile, *arguments],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            env={"PATH": os.defpath, "HOME": str(self.folder)},
        )

    def edgeforge(self, *arguments: str) -> str:
        """Run ``edgeforge``, which must succeed, and return what it printed."""
        done = self.command(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def told(self, *arguments: str) -> Any:
        """Return the JSON value that ``edgeforge`` prints."""
        return json.loads(self.edgeforge(*arguments, "--json"))

    def hub_variables(self) -> dict[str, str]:
        """Return the environment of a client of the hub, as ``edgeforge env`` prints it."""
        printed = self.told("env", "--account-key-file", str(self.key_file))
        return {
            "PATH": os.defpath,
            "HOME": str(self.folder),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            **printed,
        }

    def hf(self, variables: Mapping[str, str], *arguments: str) -> str:
        """Run the unmodified ``hf``, which must succeed."""
        done = subprocess.run(
            [_COMMANDS / "hf", *arguments],
            env=dict(variables),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def written(self, name: str, files: Files) -> str:
        """Write files into a folder of that name and return it."""
        folder = self.folder / "weights" / name
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        return str(folder)

    def client(self, node: str, model: str = "") -> AgentClient:
        """Return a client of the account at a node."""
        agent = self.nodes[node]
        assert agent.process is not None
        facts = {
            "node": node,
            "url": f"http://127.0.0.1:{agent.ports['client']}",
            "pid": agent.process.pid,
            "admin": str(agent.state_dir / "admin.sock"),
        }
        return AgentClient(facts, self.key_file.read_text().strip(), model)

    def ask(self, node: str, model: str) -> Answer:
        """Ask for a streamed chat completion at a node."""
        return self.client(node, model).chat(stream=True)

    def ask_until_served(self, node: str, model: str, timeout_s: float = 40) -> Answer:
        """Ask until there is an answer; until then each one says when to retry."""

        def served() -> Answer | None:
            answer = self.ask(node, model)
            if answer.status == 200:
                assert b'"error"' not in answer.body, answer.body  # of a stream that waited
                return answer
            assert answer.status in (429, 503), answer.body
            assert "retry-after" in answer.headers, answer.body
            return None

        return wait_until(served, timeout_s, f"an answer of {model} at {node}")

    def trace(self, answer: Answer, via: str) -> dict[str, Any]:
        """Return the trace of an answer that ``via`` has given."""
        trace_id = answer.headers["x-edgeforge-trace-id"]
        self.client(via).last_request()
        return dict(self.told("trace", "show", trace_id, "--via", via))

    def metric(self, node: str, name: str) -> float:
        """Return a figure of a node's metrics; 0 while it has none."""
        url = f"http://127.0.0.1:{self.nodes[node].ports['metrics']}/metrics"
        with urllib.request.urlopen(url, timeout=30) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith((f"{name} ", f"{name}_total ")):
                    return float(line.rpartition(" ")[2])
        return 0.0

    def kill(self, node: str) -> None:
        """``kill -9`` of an agent."""
        self.nodes[node].signal(signal.SIGKILL)
        self.nodes[node].wait()

    def revive(self, node: str) -> None:
        """Start an agent again, and wait until it is ready."""
        self.nodes[node].start()
        self.client(node).wait_ready()

    def logs(self) -> str:
        """Return the end of every log, for a failed test."""
        parts = [self.coordinator.log, *(one.log for one in self.nodes.values())]
        return "\n".join(
            f"== {path}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-40:])
            for path in parts
            if path.exists()
        )


class Clients:
    """Ask at nodes, one request after the other, from the start to some time after the block."""

    def __init__(self, fleet: Journey, model: str, nodes: Sequence[str]) -> None:
        self.answers: list[Answer] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(fleet, node, model)) for node in nodes
        ]

    def _ask(self, fleet: Journey, node: str, model: str) -> None:
        while not self._stop.is_set():
            self.answers.append(fleet.ask(node, model))

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self.answers) > 4, 30, "the first answers")
        return self

    def __exit__(self, *_error: object) -> None:
        count = len(self.answers)
        wait_until(lambda: len(self.answers) > count + 20, 30, "answers after the change")
        self._stop.set()
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def upstream_in_thread(files: Files) -> Iterator[FakeHub]:
    """Serve a repository of another hub from a thread of its own."""
    ready, found, loop = threading.Event(), [], asyncio.new_event_loop()
    ended = asyncio.Event()

    async def serve() -> None:
        async with fake_hub(files) as hub:
            found.append(hub)
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(30)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


@contextlib.contextmanager
def journey(folder: Path, weights_delay_ms: float = 0, limits: str = "") -> Iterator[Journey]:
    """Provide the fleet, with nothing published in it; ``limits`` are further ones of agents."""
    with upstream_in_thread(base_files("upstream")) as upstream:
        one = Journey(folder, upstream, weights_delay_ms, limits)
        try:
            one.start()
            yield one
        finally:
            one.stop()


def wait_told(one: Journey, *arguments: str, until: Any, what: str, timeout_s: float = 30) -> Any:
    """Return what ``edgeforge`` prints once ``until`` holds for it."""

    def found() -> Any:
        told = one.told(*arguments)
        return told if until(told) else None

    return wait_until(found, timeout_s, what)
