"""A real coordinator: initialised, served by a child process, stopped, killed, started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
from grpc import aio

from coordinator.clock import now_unix_ms
from coordinator.config import load_config
from coordinator.first_run import initialise
from protos.v1 import admin_pb2, resources_pb2
from protos.v1.admin_pb2_grpc import AdminStub
from protos.v1.enrolment_pb2 import EnrolRequest
from protos.v1.enrolment_pb2_grpc import EnrolmentStub
from protos.v1.residency_pb2_grpc import AccountResidencyStub
from tests.support.certificates import p256_key, private_pem, request_der
from tests.support.ports import free_ports
from tests.support.scripted_agent import NodeIdentity, coordinator_options
from tests.support.waiting import wait_until

COMMAND = Path(sys.executable).with_name("edgeforge-coordinator")
SECTIONS = ("fleet", "admin", "enrolment", "http")
_READY_TIMEOUT_S = 60.0


def config_text(folder: Path, ports: dict[str, int], extra: str = "") -> str:
    """Return a configuration on loopback; ``extra`` is further TOML."""
    sections = "\n".join(f"[{name}]\nport = {ports[name]}\n" for name in SECTIONS)
    return f'[coordinator]\nstate_dir = "{folder / "state"}"\n{sections}\n{extra}\n'


class CoordinatorProcess:
    """One coordinator in its own folder, on ports of its own that stay the same over restarts."""

    def __init__(self, folder: Path, extra: str = "") -> None:
        self.folder = folder
        self.ports = dict(zip(SECTIONS, free_ports(len(SECTIONS)), strict=True))
        self.config = folder / "coordinator.toml"
        self.config.write_text(config_text(folder, self.ports, extra), encoding="utf-8")
        self.log = folder / "coordinator.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    @property
    def operator_dir(self) -> Path:
        return self.state_dir / "operators" / "admin"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def command(self, *arguments: str, environ: dict[str, str] | None = None):
        """Run a command to its end and return what it left."""
        return subprocess.run(
            [COMMAND, *arguments, "--config", self.config],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, **(environ or {})},
        )

    def init(self) -> dict[str, str]:
        """Initialise, and return the command's output."""
        done = self.command("init", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def init_here(self) -> None:
        """Initialise within this process: much faster, for tests of something else."""
        config = load_config(self.config, {})
        asyncio.run(initialise(config, "admin", now_unix_ms=now_unix_ms))

    def start(self) -> None:
        """Serve, and wait until all listeners are open."""
        out = self.folder / "coordinator.out"
        with self.log.open("ab") as log, out.open("wb") as stdout:
            self.process = subprocess.Popen(
                [COMMAND, "serve", "--json", "--config", self.config], stderr=log, stdout=stdout
            )
        wait_until(lambda: b"ready" in out.read_bytes() or self._died(), _READY_TIMEOUT_S, "ready")
        assert self.process.poll() is None, self.log_text()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, return the exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        self.process = None
        return code

    def log_text(self) -> str:
        """Return all that it has logged."""
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    def rss_bytes(self) -> int:
        """Return the memory it holds."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024

    def cpu_s(self) -> float:
        """Return the processor time it has used."""
        fields = (
            Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        )
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def address(self, section: str) -> str:
        return f"127.0.0.1:{self.ports[section]}"

    def _died(self) -> bool:
        return self.process is not None and self.process.poll() is not None


class Operator:
    """The first operator, over the real administration listener."""

    def __init__(self, coordinator: CoordinatorProcess) -> None:
        self._coordinator = coordinator
        folder = coordinator.operator_dir
        self.ca_pem = (folder / "ca.pem").read_bytes()
        credentials = grpc.ssl_channel_credentials(
            self.ca_pem, (folder / "key.pem").read_bytes(), (folder / "cert.pem").read_bytes()
        )
        self._channel = aio.secure_channel(
            coordinator.address("admin"), credentials, coordinator_options()
        )
        self.admin = AdminStub(self._channel)
        self.residency = AccountResidencyStub(self._channel)

    async def close(self) -> None:
        await self._channel.close()

    async def create_pop(self, pop_id: str = "GRU", zone: str = "BR") -> None:
        pop = resources_pb2.Pop(
            id=pop_id, tier=resources_pb2.TIER_EDGE, zone=zone, city="Somewhere"
        )
        await self.admin.CreatePop(admin_pb2.CreatePopRequest(pop=pop))

    async def enrol(self, node_id: str, pop_id: str = "GRU") -> NodeIdentity:
        """Make a token and redeem it as an agent does."""
        made = await self.admin.CreateNodeToken(
            admin_pb2.CreateNodeTokenRequest(pop_id=pop_id, node_id=node_id)
        )
        _, _, token_id, secret = made.token.split(".")
        key = p256_key()
        credentials = grpc.ssl_channel_credentials(self.ca_pem)
        address = self._coordinator.address("enrolment")
        async with aio.secure_channel(address, credentials, coordinator_options()) as channel:
            answer = await EnrolmentStub(channel).Enrol(
                EnrolRequest(token_id=token_id, secret=secret, csr_der=request_der(key))
            )
        return NodeIdentity(node_id, private_pem(key), answer.certificate_pem, answer.ca_bundle_pem)

    async def audit(self) -> list[tuple[str, str, str]]:
        """Return ``(actor, action, subject)`` of the newest entries, those of strangers last."""
        found = []
        for strangers in (False, True):
            request = admin_pb2.ListAuditRequest(limit=1_000, strangers=strangers)
            found += (await self.admin.ListAudit(request)).entries
        return [(entry.actor, entry.action, entry.subject) for entry in found]

    async def node(self, node_id: str) -> admin_pb2.NodeInfo | None:
        """Return one node as `node ls` shows it."""
        answer = await self.admin.ListNodes(admin_pb2.ListNodesRequest())
        return next((info for info in answer.nodes if info.node.id == node_id), None)
