"""Starts a fake engine as a process of its own, and reads the requests it recorded.

>>> with FakeEngineProcess("acme/small@1", uds=tmp_path / "e.sock") as engine:
...     engine.control(tokens=3, die_after_tokens=2)
...     ...
...     assert engine.requests()[0]["path"] == "/v1/completions"
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.ports import free_ports

if TYPE_CHECKING:
    from types import TracebackType

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 20.0


class UnixHTTPConnection(http.client.HTTPConnection):
    """``http.client`` over a Unix socket."""

    def __init__(self, path: str, timeout_s: float = 30.0) -> None:
        super().__init__("engine", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def is_look(recorded: dict[str, Any]) -> bool:
    """Whether a recorded request is an agent's own probe of its engine.

    Requests that an agent passes on have no ``user-agent``; its own name its HTTP library.
    """
    return "aiohttp/" in recorded["headers"].get("user-agent", "")


class EngineClient:
    """The ``/control`` side of a fake engine that runs somewhere."""

    def __init__(self, *, uds: Path | str | None = None, port: int | None = None) -> None:
        self.uds = None if uds is None else str(uds)
        self.port = port

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Return the parsed answer; an empty one is None."""
        connection = (
            UnixHTTPConnection(self.uds)
            if self.uds is not None
            else http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        )
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise AssertionError(f"{method} {path}: {response.status} {data!r}")
        return json.loads(data) if data else None

    def control(self, **behaviour: object) -> None:
        """Set fields of ``fake_engine.Behaviour``; what is not named gets its default."""
        self.call("POST", "/control", behaviour)

    def requests(self, *, looks: bool = False) -> list[dict[str, Any]]:
        """Return every recorded request, oldest first.

        Without ``looks``, an agent's own probes are left out.
        """
        recorded = list(self.call("GET", "/control/requests")["requests"])
        return recorded if looks else [one for one in recorded if not is_look(one)]

    def running(self) -> int:
        """Return how many generations are running."""
        return int(self.call("GET", "/control/requests")["running"])

    def forget(self) -> None:
        """Forget the recorded requests."""
        self.call("DELETE", "/control/requests")


class FakeEngineProcess(EngineClient):
    """A fake engine in its own process: a context manager, or ``start`` and ``stop``.

    Without ``uds`` it listens on a free port of 127.0.0.1, or on ``port`` if given.
    """

    def __init__(
        self,
        model: str = "acme/small@1",
        *,
        uds: Path | str | None = None,
        port: int = 0,
        embeds: bool = False,
        context_tokens: int = 2_048,
    ) -> None:
        super().__init__(uds=uds, port=None if uds is not None else port)
        self.model = model
        self.embeds = embeds
        self.context_tokens = context_tokens
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        if self.uds is None and not self.port:
            # none that an outgoing connection may take while the engine is down
            (self.port,) = free_ports(1)
        where = ["--uds", self.uds] if self.uds is not None else ["--port", str(self.port)]
        kind = ["--runner", "pooling"] if self.embeds else []
        if self.uds is not None:
            Path(self.uds).unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.support.fake_engine",
                *where,
                "--model",
                self.model,
                "--max-model-len",
                str(self.context_tokens),
                *kind,
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the fake engine ended before it listened"
        self.port = json.loads(line)["port"]

    def kill(self) -> None:
        """``kill -9``, as the kernel would."""
        assert self.process is not None
        self.process.kill()
        self._reap()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
        self._reap()

    def _reap(self) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> FakeEngineProcess:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
