"""The delaying relay as a process of its own, and its control socket."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from coordinator.devfleet.delay_config import DelayConfig, Listener
from tests.support.waiting import wait_until


def send_fault(control: Path, fault: str, source: str, destination: str) -> None:
    """Set a fault in a running relay, and wait until it is in effect."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(control))
        asked = {"fault": fault, "source": source, "destination": destination}
        sock.sendall(json.dumps(asked).encode() + b"\n")
        answer = json.loads(sock.makefile().readline())
    assert answer == {"ok": True}, answer


class DelayRelayProcess:
    """Start it with a configuration; ``fault`` breaks and heals links."""

    def __init__(
        self,
        folder: Path,
        *,
        sources: dict[str, str],
        round_trips_ms: dict[str, dict[str, float]],
        listeners: list[Listener],
    ) -> None:
        self._control = folder / "relay.sock"
        self._path = folder / "relay.json"
        config = DelayConfig(str(self._control), sources, round_trips_ms, listeners)
        self._path.write_text(config.dumps())
        self.process: subprocess.Popen[bytes] | None = None

    def fault(self, fault: str, source: str, destination: str) -> None:
        """Set a fault, and wait until it is in effect."""
        send_fault(self._control, fault, source, destination)

    def __enter__(self) -> DelayRelayProcess:
        argv = [sys.executable, "-m", "coordinator.devfleet.delay_relay", str(self._path)]
        self.process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        wait_until(self._control.exists, 60, "the relay to listen")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(30)
