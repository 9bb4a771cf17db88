"""One run of one vLLM under its guard: folders, start, end, and the reason of its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.engine import guard
from agent.engine.leftovers import clear_leftovers
from protos.domain.errors import ConfigInvalid, EdgeForgeError, EngineFailed, NoEngineEnvironment

if TYPE_CHECKING:
    from agent.engine.argv import EngineCommand

#: ``sun_path`` of a Unix socket, less its closing zero. Source: unix(7).
MAX_UDS_PATH_BYTES = 107
#: From SIGTERM to SIGKILL of the engine; shorter than the machine's grace for the guard.
GUARD_GRACE_MS = 5_000
LOG_FILE_BYTES = 8 * 1024 * 1024
LOG_FILES = 4
_LOG_TAIL_BYTES = 16 * 1024
_REASON_CHARS = 300
#: The last line of a traceback, with or without vLLM's prefix.
_EXCEPTION = re.compile(r"\b[A-Za-z_.]+(Error|Exception): .+")
#: For a few imports and a fork on a busy host.
_GUARD_START_S = 20.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EnginePaths:
    """The files and folders of one engine, below a state folder of the node."""

    state_dir: Path

    @property
    def run_dir(self) -> Path:
        """Private (0700), emptied before every start."""
        return self.state_dir / "run"

    @property
    def uds_path(self) -> Path:
        """The socket that the engine listens on."""
        return self.run_dir / "e.sock"

    @property
    def home_dir(self) -> Path:
        """The engine's caches, kept for its next start."""
        return self.state_dir / "home"

    @property
    def log_path(self) -> Path:
        """The newest log; older ones are ``.1``, ``.2`` ..."""
        return self.state_dir / "engine.log"

    @property
    def record_path(self) -> Path:
        """The processes that run, for ``leftovers``."""
        return self.state_dir / "engine.json"

    def check(self) -> None:
        """Raise ConfigInvalid if the socket's path would be too long for a socket."""
        path_bytes = len(os.fsencode(self.uds_path))
        if path_bytes > MAX_UDS_PATH_BYTES:
            raise ConfigInvalid(
                [f"the engine's socket {self.uds_path} has a path of {path_bytes} bytes"],
                f"a Unix socket's may have {MAX_UDS_PATH_BYTES}: choose a shorter state folder",
            )

    def prepare(self) -> None:
        """Make the folders; empty the private one."""
        for folder in (self.state_dir, self.home_dir):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.rmtree(self.run_dir, ignore_errors=True)
        self.run_dir.mkdir(mode=0o700)


def require_engine_environment(environment: Path) -> None:
    """Raise NoEngineEnvironment unless ``environment`` has an interpreter to start vLLM with."""
    python = environment / "bin" / "python"
    if not os.access(python, os.X_OK):
        raise NoEngineEnvironment(
            [f"no engine environment at {environment}: {python} cannot be executed"],
            f"install it with: packaging/engine/install --venv {environment}",
        )


class EngineProcess:
    """A guard and its engine. Made by ``spawn``."""

    def __init__(
        self, process: asyncio.subprocess.Process, engine_pid: int | None, paths: EnginePaths
    ) -> None:
        self._process = process
        #: The engine's first process; None if the guard ended before it reported one.
        self.pid = engine_pid
        self._paths = paths
        self._asked_to_die = False

    @classmethod
    async def spawn(cls, command: EngineCommand, paths: EnginePaths) -> EngineProcess:
        """Start ``command``, after ending what an earlier run left.

        The agent must keep this object: with it the guard's standard input closes, and a guard
        without an agent ends its engine.

        Raises: EngineFailed if leftovers do not end or the guard cannot be started.
        """
        await asyncio.to_thread(clear_leftovers, paths.record_path)
        try:
            paths.prepare()
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", guard.__file__),
                *("--record", str(paths.record_path)),
                *("--log", str(paths.log_path)),
                *("--log-bytes", str(LOG_FILE_BYTES)),
                *("--log-files", str(LOG_FILES)),
                *("--grace-ms", str(GUARD_GRACE_MS)),
                "--",
                *command.argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=paths.run_dir,
                env=command.env,
                # Ctrl-C at the agent's terminal must not reach the engine.
                start_new_session=True,
            )
        except OSError as error:
            raise EngineFailed(
                f"cannot start an engine: {error}", "see free disk, memory and processes"
            ) from error
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_GUARD_START_S):
                line = await process.stdout.readline()
        except TimeoutError as error:
            process.kill()
            raise EngineFailed("the guard of a new engine says nothing", "see its log") from error
        return cls(process, int(line) if line.strip().isdigit() else None, paths)

    def terminate(self) -> None:
        """Ask it to end; the guard kills it after ``GUARD_GRACE_MS``."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the whole tree now; a second call also kills the guard."""
        self._signal(signal.SIGKILL if self._asked_to_die else signal.SIGQUIT)
        self._asked_to_die = True

    async def wait(self) -> str:
        """Return the reason of its end, once the whole tree has ended."""
        code = await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        if code < 0:
            try:
                await asyncio.to_thread(clear_leftovers, self._paths.record_path)
            except EdgeForgeError as error:
                # The next start tries again, and is refused while they run.
                _log.error("cannot clean up after the guard error=%s", error)
            return f"its guard was killed by signal {-code}"
        if code > 128:
            return f"killed by signal {code - 128}"
        said = last_words(self._paths.log_path)
        return f"exit code {code}: {said}" if said else f"exit code {code}"

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


def last_words(log_path: Path) -> str:
    """Return the last exception that the latest run logged, or else its last line."""
    try:
        with log_path.open("rb") as stream:
            stream.seek(max(0, log_path.stat().st_size - _LOG_TAIL_BYTES))
            text = stream.read(_LOG_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Of this run only: the guard logs each start.
    for at in range(len(lines) - 1, -1, -1):
        if lines[at].startswith("[guard] started"):
            lines = lines[at + 1 :]
            break
    lines = [line for line in lines if not line.startswith("[guard]")]
    raised = [found.group() for line in lines if (found := _EXCEPTION.search(line))]
    return (raised or lines or [""])[-1][:_REASON_CHARS]
