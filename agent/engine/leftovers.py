"""Ends the processes of an earlier engine whose guard was killed."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

from agent.engine.guard import (
    POLL_S,
    RUN_VARIABLE,
    Stat,
    all_processes,
    boot_id,
    read_stat,
    send_signal,
)
from protos.domain.errors import EngineFailed

#: For a living guard to kill its tree, and for killed processes to disappear.
CLEAR_TIMEOUT_S = 10.0

_log = logging.getLogger(__name__)


def clear_leftovers(record_path: Path) -> int:
    """Kill the processes recorded at ``record_path`` and return how many there were.

    Blocks for up to ``CLEAR_TIMEOUT_S``. Reused pids are not killed: a process counts only with the
    recorded start time, the recorded session, or the mark in its environment.

    Raises: EngineFailed if a process does not end, so that no second engine starts beside it.
    """
    record = _read_record(record_path)
    if record is None or record.get("boot_id") != boot_id():
        record_path.unlink(missing_ok=True)
        return 0
    seen: set[int] = set()
    guard_pid = int(record["guard_pid"])
    for _attempt in range(int(CLEAR_TIMEOUT_S / POLL_S)):
        guard = _alive(guard_pid, int(record["guard_start_ticks"]))
        ours = _recorded(record) if guard is None else [guard]
        if not ours:
            break
        for stat in ours:
            # A living guard ends its tree itself: it sees the whole of it.
            send_signal(stat.pid, signal.SIGQUIT if stat is guard else signal.SIGKILL)
            seen.add(stat.pid)
        time.sleep(POLL_S)
    else:
        raise EngineFailed(
            f"processes {sorted(seen)} of an earlier engine do not end",
            "see what holds them with ps and /proc/PID/stack",
        )
    record_path.unlink(missing_ok=True)
    if seen:
        _log.warning("ended leftovers of an earlier engine pids=%s", sorted(seen))
    return len(seen)


def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    wanted = {"boot_id", "run", "guard_pid", "guard_start_ticks", "engine_pid"}
    if not isinstance(record, dict) or not wanted <= record.keys():
        return None
    return record


def _alive(pid: int, start_ticks: int) -> Stat | None:
    """Return process ``pid`` if it is the one that started at ``start_ticks``."""
    stat = read_stat(pid)
    if stat is None or stat.state == "Z" or stat.start_ticks != start_ticks:
        return None
    return stat


def _recorded(record: dict[str, Any]) -> list[Stat]:
    """Return every living process of the recorded run."""
    session, since_ticks = int(record["engine_pid"]), int(record["guard_start_ticks"])
    leader = read_stat(session)
    # The kernel does not reuse a pid while a session has that id: without a leader, or with the
    # recorded one, the session is the recorded one.
    is_ours = leader is None or leader.start_ticks == record.get("engine_start_ticks")
    return [
        stat
        for stat in all_processes()
        if stat.state != "Z"
        and stat.pid != os.getpid()
        and (
            (is_ours and stat.session == session and stat.start_ticks >= since_ticks)
            or _has_mark(stat.pid, record["run"])
        )
    ]


def _has_mark(pid: int, run: str) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{RUN_VARIABLE}={run}".encode() in environment.split(b"\0")
