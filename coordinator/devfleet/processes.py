"""Starts and stops processes that outlive the command, identified by pid and start time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from coordinator.devfleet.layout import FleetLayout, write_private
from protos.domain.errors import EdgeForgeError

_POLL_S = 0.05
_LOG_TAIL_LINES = 12
#: Children of this process, which usually ends long before them.
_children: list[subprocess.Popen[bytes]] = []
_OUR_PROGRAMS = frozenset(
    {
        b"edgeforge-agent",
        b"edgeforge-coordinator",
        b"coordinator.devfleet.delay_relay",
        b"guard.py",
        b"preimport.py",
        b"vllm.entrypoints.openai.api_server",
    }
)
#: Field 22 of /proc/PID/stat, counted after the command's closing parenthesis. Source: proc(5).
_START_TICKS_FIELD = 19


def program(name: str) -> str:
    """Return the path of one of the product's commands, beside this interpreter."""
    return str(Path(sys.executable).with_name(name))


def start_process(layout: FleetLayout, name: str, argv: list[str]) -> int:
    """Start ``argv`` in a session of its own, logging to a file, and remember it."""
    log = layout.log(name)
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=layout.root,
        )
    _children.append(process)
    identity = {"pid": process.pid, "start_ticks": _start_ticks(process.pid)}
    write_private(layout.pid_file(name), json.dumps(identity))
    return process.pid


def running_pid(layout: FleetLayout, name: str) -> int | None:
    """Return the pid of ``name`` if the same process still runs."""
    try:
        identity = json.loads(layout.pid_file(name).read_text(encoding="utf-8"))
        pid, ticks = int(identity["pid"]), identity["start_ticks"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    _reap()
    return pid if ticks is not None and _start_ticks(pid) == ticks else None


def started_names(layout: FleetLayout) -> list[str]:
    """Return the names of all processes started and not stopped, dead ones included."""
    return sorted(path.stem for path in (layout.root / "pids").glob("*.json"))


def stop_process(layout: FleetLayout, name: str, timeout_s: float) -> bool:
    """End ``name`` by SIGTERM, then by SIGKILL. Returns whether SIGTERM was enough."""
    pid = running_pid(layout, name)
    gentle = True
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        gentle = _wait_gone(layout, name, timeout_s)
        if not gentle:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            _wait_gone(layout, name, timeout_s)
    layout.pid_file(name).unlink(missing_ok=True)
    return gentle


def leftovers(layout: FleetLayout) -> list[int]:
    """Return the product's processes and engines that have the fleet's folder in their arguments.

    Other programs, such as an editor with a log open, are left out.
    """
    _reap()
    needle = str(layout.root).encode() + b"/"
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            argv = (entry / "cmdline").read_bytes().split(b"\0")
            if _is_ours(argv) and any(needle in argument for argument in argv):
                found.append(int(entry.name))
    return found


def log_tail(layout: FleetLayout, name: str) -> str:
    """Return the last lines that ``name`` logged."""
    try:
        lines = layout.log(name).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(f"  | {line}" for line in lines[-_LOG_TAIL_LINES:])


def require_running(layout: FleetLayout, name: str) -> None:
    """Raise EdgeForgeError with the end of its log unless ``name`` runs."""
    if running_pid(layout, name) is None:
        raise EdgeForgeError(
            f"{name} has stopped:\n{log_tail(layout, name)}",
            f"mend what it says, then run edgeforge up again; the whole log is {layout.log(name)}",
        )


def _is_ours(argv: list[bytes]) -> bool:
    programs = {argument.rpartition(b"/")[2] for argument in argv[:3]}
    return not _OUR_PROGRAMS.isdisjoint(programs)


def _wait_gone(layout: FleetLayout, name: str, timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s  # noqa: TID251 - waits for another process
    while running_pid(layout, name) is not None:
        if time.monotonic() > deadline_s:  # noqa: TID251 - waits for another process
            return False
        time.sleep(_POLL_S)
    return True


def _start_ticks(pid: int) -> int | None:
    """Return when ``pid`` started, in clock ticks since boot; None when it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    # A killed process shows as a zombie while other threads of it still hold its ports.
    if fields[0] in ("Z", "X") and threads <= 1:
        return None
    return int(fields[_START_TICKS_FIELD])


def _reap() -> None:
    """Reap children that have ended, so that none stays as a zombie."""
    _children[:] = [child for child in _children if child.poll() is None]
