"""Runs one engine and ends its whole process tree, whichever process is killed first.

    python -I -S guard.py --record F --log F --log-bytes N --log-files N --grace-ms N -- ARGV...

A process of its own, run by path with the standard library only: small, and independent of the
agent's life. It is the subreaper of everything that the engine starts, so it also sees descendants
that fork twice or make a session.

- The engine ends: its descendants are killed, then the guard exits with the engine's code (128 +
  signal number).
- SIGTERM, or the agent is gone (standard input closes, even on ``kill -9``): SIGTERM to the engine,
  after ``--grace-ms`` SIGKILL to the whole tree. SIGQUIT: SIGKILL at once.
- The guard itself is killed: the kernel kills the engine's first process, and the next start finds
  the others through ``--record`` (``agent/engine/leftovers.py``).

Its only output is the engine's pid, one line. What the engine prints goes to a log that rotates by
size. The agent imports the ``/proc`` readers.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import NamedTuple

#: In every descendant's environment: identifies them after the guard has died.
RUN_VARIABLE = "EDGEFORGE_ENGINE_RUN"
#: multiprocessing's tracker unlinks shared memory once the others are dead; then it is killed.
TRACKER_GRACE_S = 2.0
POLL_S = 0.02
READ_BYTES = 64 * 1024

_OWN_SIGNALS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGALRM, signal.SIGCHLD)

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class Stat(NamedTuple):
    """A process from ``/proc/PID/stat``; ``start_ticks`` distinguishes it if its pid is reused."""

    pid: int
    state: str
    parent: int
    session: int
    start_ticks: int


def read_stat(pid: int) -> Stat | None:
    """Return process ``pid``, or None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes().decode("utf-8", "replace")
    except OSError:
        return None
    # The command name, in parentheses, may contain anything.
    fields = text[text.rindex(")") + 2 :].split()
    return Stat(pid, fields[0], int(fields[1]), int(fields[3]), int(fields[19]))


def all_processes() -> list[Stat]:
    """Return every visible process, zombies included."""
    found = (read_stat(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [stat for stat in found if stat is not None]


def descendants(root: int) -> list[Stat]:
    """Return all descendants of ``root``, without zombies."""
    children: dict[int, list[Stat]] = {}
    for stat in all_processes():
        children.setdefault(stat.parent, []).append(stat)
    found: list[Stat] = []
    stack = [root]
    while stack:
        below = children.get(stack.pop(), [])
        found += below
        stack += [stat.pid for stat in below]
    return [stat for stat in found if stat.state != "Z"]


def is_tracker(pid: int) -> bool:
    """Return whether ``pid`` is Python's multiprocessing resource tracker."""
    try:
        return b"multiprocessing.resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def send_signal(pid: int, number: int) -> None:
    """Signal ``pid`` if it still exists."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def boot_id() -> str:
    """Return the kernel's id of this boot; pids recorded in another boot are void."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class RotatingLog:
    """``path``, ``path.1`` ... ``path.<files - 1>``, each at most ``limit_bytes``.

    On a full disk lines are lost; the engine runs on.
    """

    def __init__(self, path: Path, limit_bytes: int, files: int) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._files = files
        self._fd: int | None = None
        self._size_bytes = 0

    def write(self, data: bytes) -> None:
        for at in range(0, len(data), self._limit_bytes):
            part = data[at : at + self._limit_bytes]
            with contextlib.suppress(OSError):
                fd = self._open()
                if self._size_bytes + len(part) > self._limit_bytes:
                    self._rotate(fd)
                    fd = self._open()
                self._size_bytes += os.write(fd, part)

    def say(self, message: str) -> None:
        self.write(f"[guard] {message}\n".encode())

    def _open(self) -> int:
        if self._fd is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._fd = os.open(self._path, flags, 0o600)
            self._size_bytes = os.fstat(self._fd).st_size
        return self._fd

    def _rotate(self, fd: int) -> None:
        self._fd = None
        os.close(fd)
        for number in range(self._files - 1, 0, -1):
            newer = self._path.with_name(f"{self._path.name}.{number - 1}")
            with contextlib.suppress(FileNotFoundError):
                os.replace(
                    newer if number > 1 else self._path,
                    self._path.with_name(f"{self._path.name}.{number}"),
                )
        if self._files == 1:
            os.truncate(self._path, 0)


class Guard:
    """The event loop of one guard process."""

    def __init__(self, argv: list[str], record: Path, log: RotatingLog, grace_ms: int) -> None:
        self._argv = argv
        self._record = record
        self._log = log
        self._grace_ms = grace_ms
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._engine_pid = 0
        self._engine_code: int | None = None
        self._stopping = False
        self._kill_now = False

    def run(self) -> int:
        """Run the engine to its end and return the exit code to pass on."""
        self._prctl(_PR_SET_CHILD_SUBREAPER, 1)
        # Beside the end of standard input; alone it would miss an agent whose thread ended first.
        self._prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        wakeup_read = self._watch_signals()
        output_read = self._start_engine()
        poll = select.poll()
        for fd in (wakeup_read, output_read, 0):
            poll.register(fd, select.POLLIN)
        while self._engine_code is None and not self._kill_now:
            for fd, _flags in poll.poll():
                data = os.read(fd, READ_BYTES)
                if fd == wakeup_read:
                    for number in data:
                        self._on_signal(number)
                elif fd == output_read:
                    self._log.write(data)
                elif not data:
                    self._log.say("the agent is gone")
                    self._stop()
                if not data:
                    poll.unregister(fd)
        self._kill_tree()
        self._drain(output_read)
        code = self._engine_code if self._engine_code is not None else 128 + signal.SIGKILL
        self._log.say(f"the engine is gone, exit code {code}")
        self._record.unlink(missing_ok=True)
        return code

    def _prctl(self, option: int, value: int) -> None:
        if self._libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({option})")

    def _watch_signals(self) -> int:
        wakeup_read, wakeup_write = os.pipe()
        os.set_blocking(wakeup_read, False)
        os.set_blocking(wakeup_write, False)
        signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
        for number in _OWN_SIGNALS:
            signal.signal(number, lambda _number, _frame: None)
        # Ctrl-C and a hang-up of the terminal are handled by the agent.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return wakeup_read

    def _start_engine(self) -> int:
        guard_pid = os.getpid()
        own = read_stat(guard_pid)
        assert own is not None
        run = f"{boot_id()}/{guard_pid}/{own.start_ticks}"
        output_read, output_write = os.pipe()
        # Blocked until the child has its own handlers, or an early SIGTERM would be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, _OWN_SIGNALS)
        pid = os.fork()
        if pid == 0:
            self._become_engine(guard_pid, run, output_write)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _OWN_SIGNALS)
        os.close(output_write)
        os.set_blocking(output_read, False)
        self._engine_pid = pid
        self._write_record(run, guard_pid, own.start_ticks)
        self._log.say(f"started pid {pid}: {Path(self._argv[0]).name}")
        # The agent may have ended by now; the end of standard input shows it.
        with contextlib.suppress(BrokenPipeError):
            os.write(1, f"{pid}\n".encode())
        return output_read

    def _become_engine(self, guard_pid: int, run: str, output_write: int) -> None:
        """Replace the forked child by the engine; never returns."""
        try:
            os.setsid()
            self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != guard_pid:
                os._exit(1)
            signal.set_wakeup_fd(-1)
            for number in (*_OWN_SIGNALS, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _OWN_SIGNALS)
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(output_write, 1)
            os.dup2(output_write, 2)
            os.execve(self._argv[0], self._argv, {**os.environ, RUN_VARIABLE: run})
        except OSError as error:
            os.write(output_write, f"cannot run {self._argv[0]}: {error.strerror}\n".encode())
        finally:
            os._exit(127)

    def _write_record(self, run: str, guard_pid: int, guard_start_ticks: int) -> None:
        engine = read_stat(self._engine_pid)
        record = {
            "boot_id": boot_id(),
            "run": run,
            "guard_pid": guard_pid,
            "guard_start_ticks": guard_start_ticks,
            "engine_pid": self._engine_pid,
            "engine_start_ticks": engine.start_ticks if engine is not None else 0,
        }
        partial = self._record.with_suffix(".partial")
        partial.write_text(json.dumps(record))
        os.replace(partial, self._record)

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reap()
        elif number == signal.SIGTERM:
            self._log.say("asked to stop")
            self._stop()
        elif number == signal.SIGALRM:
            self._log.say("the engine did not stop in time")
            self._kill_now = True
        elif number == signal.SIGQUIT:
            self._log.say("asked to kill")
            self._kill_now = True

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            send_signal(self._engine_pid, signal.SIGTERM)
            # A timer of zero would be switched off.
            signal.setitimer(signal.ITIMER_REAL, max(self._grace_ms, 1) / 1000)

    def _reap(self) -> bool:
        """Reap ended children; return False when no child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._engine_pid:
                code = os.waitstatus_to_exitcode(status)
                self._engine_code = code if code >= 0 else 128 - code

    def _kill_tree(self) -> None:
        """Kill until no child is left; orphans become children of this subreaper."""
        waits_left = int(TRACKER_GRACE_S / POLL_S)
        while self._reap():
            for stat in descendants(os.getpid()):
                if waits_left <= 0 or not is_tracker(stat.pid):
                    send_signal(stat.pid, signal.SIGKILL)
            waits_left -= 1
            select.select([], [], [], POLL_S)

    def _drain(self, output_read: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(output_read, READ_BYTES):
                self._log.write(data)


def main(arguments: list[str]) -> int:
    """Parse the command line and run the engine that follows ``--``."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--log-bytes", type=int, required=True)
    parser.add_argument("--log-files", type=int, required=True)
    parser.add_argument("--grace-ms", type=int, required=True)
    parser.add_argument("argv", nargs="+")
    options = parser.parse_args(arguments)
    log = RotatingLog(options.log, options.log_bytes, options.log_files)
    return Guard(options.argv, options.record, log, options.grace_ms).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
