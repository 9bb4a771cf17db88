"""A real agent: configured, enrolled, served by a child process, stopped."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.ports import free_ports
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.coordinator_process import CoordinatorProcess
    from tests.support.scripted_agent import NodeIdentity

COMMAND = Path(sys.executable).with_name("edgeforge-agent")
SECTIONS = ("client", "peer", "metrics")
_READY_TIMEOUT_S = 60.0


class AgentProcess:
    """One agent in its own folder, on ports of its own that stay the same over restarts."""

    def __init__(self, folder: Path, *, enrolment: str = "127.0.0.1:1", extra: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.state_dir = folder / "state"
        self.ports = dict(zip(SECTIONS, free_ports(len(SECTIONS)), strict=True))
        self.config = folder / "agent.toml"
        self.log = folder / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.write_config(enrolment, extra)

    def write_config(self, enrolment: str = "127.0.0.1:1", extra: str = "") -> None:
        """Write the file; ``extra`` is further TOML: no section that is here already."""
        ports = "".join(f"[{name}]\nport = {port}\n" for name, port in self.ports.items())
        self.config.write_text(
            f'[node]\nstate_dir = "{self.state_dir}"\n'
            f'[coordinator]\nenrolment_address = "{enrolment}"\n'
            "reconnect_min_ms = 50\nreconnect_max_ms = 200\n"
            f"{ports}{extra}\n",
            encoding="utf-8",
        )

    def command(
        self, *arguments: str, stdin: str | None = None, environ: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and return what it left."""
        return subprocess.run(
            [COMMAND, *arguments, "--config", self.config],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, **(environ or {})},
        )

    def enroll(self, token: str) -> subprocess.CompletedProcess[str]:
        """Enrol with a token on standard input."""
        return self.command("enroll", "--token-file", "-", stdin=token)

    def start(self) -> None:
        """Serve, and wait until ``/livez`` answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [COMMAND, "serve", "--config", self.config], stderr=log, stdout=log
            )
        wait_until(lambda: self.probe("/livez") == 200 or self._died(), _READY_TIMEOUT_S, "livez")
        assert not self._died(), self.log_text()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        assert self.process is not None
        code = self.process.wait(timeout=60)
        self.process = None
        return code

    def stop(self) -> int:
        """Stop the agent if it runs."""
        if self.process is None:
            return 0
        if not self._died():
            self.signal(signal.SIGTERM)
        return self.wait()

    def probe(self, path: str) -> int:
        """Return the HTTP status of a health path; 0 while the port is closed."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["metrics"], timeout=30)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    def _died(self) -> bool:
        return self.process is not None and self.process.poll() is not None


def enrolled(coordinator: CoordinatorProcess, identity: NodeIdentity, folder: Path) -> None:
    """Put an identity where an agent keeps its own, as ``enroll`` does."""
    from agent.link.certified_key import Issued, save_issued

    issued = Issued(
        identity.certificate_pem,
        identity.ca_pem,
        node_id=identity.node_id,
        pop_id="GRU",
        fleet_address=coordinator.address("fleet"),
    )
    save_issued(folder, identity.key_pem, issued)
