"""``edgeforge down``: stops agents, then coordinator and relay, then what is left."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from coordinator.devfleet.layout import RELAY
from coordinator.devfleet.processes import leftovers, running_pid, started_names, stop_process
from protos.domain.errors import EdgeForgeError

if TYPE_CHECKING:
    from coordinator.devfleet.layout import FleetLayout

#: An agent lets streams end (5 s) and its engine stop (up to 15 s).
_AGENT_TIMEOUT_S = 40.0
_COORDINATOR_TIMEOUT_S = 30.0
_LEFTOVER_TIMEOUT_S = 10.0
_POLL_S = 0.1
#: Processes that agents need while they stop.
_LAST = (RELAY, "coordinator")


def bring_down(layout: FleetLayout, report: Callable[[str], None], *, purge: bool) -> None:
    """Stop all processes. Raises: EdgeForgeError naming those that did not end."""
    names = started_names(layout)
    agents = [name for name in names if name not in _LAST and running_pid(layout, name)]
    if agents:
        report(f"stopping {', '.join(agents)}")
        with ThreadPoolExecutor(len(agents)) as pool:
            list(pool.map(lambda name: stop_process(layout, name, _AGENT_TIMEOUT_S), agents))
    for name in _LAST:
        if running_pid(layout, name) is not None:
            report(f"stopping the {name}")
        stop_process(layout, name, _COORDINATOR_TIMEOUT_S)
    layout.relay_socket.unlink(missing_ok=True)
    _end_leftovers(layout, report)
    if not names:
        report("no fleet was started here")
    else:
        report("the fleet is down")
    if purge:
        shutil.rmtree(layout.root, ignore_errors=True)
        report(f"deleted {layout.root}")


def _end_leftovers(layout: FleetLayout, report: Callable[[str], None]) -> None:
    """End engines whose agent died before it ended them."""
    left = leftovers(layout)
    deadline_s = time.monotonic() + _LEFTOVER_TIMEOUT_S  # noqa: TID251 - waits for processes
    while left:
        if time.monotonic() > deadline_s:  # noqa: TID251 - as above
            raise EdgeForgeError(f"processes that would not end: {left}", "kill them by hand")
        report(f"ending what was left behind: {left}")
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL_S)
        left = leftovers(layout)
