"""Waits for conditions of other processes, with a timeout."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from coordinator.devfleet.processes import log_tail, require_running, running_pid
from protos.domain.errors import EdgeForgeError

if TYPE_CHECKING:
    from coordinator.devfleet.layout import FleetLayout

START_TIMEOUT_S = 60.0
_POLL_S = 0.1


def wait_for(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait until ``condition`` holds. Raises: EdgeForgeError after ``timeout_s``."""
    deadline_s = time.monotonic() + timeout_s  # noqa: TID251 - waits for other processes
    while not condition():
        if time.monotonic() > deadline_s:  # noqa: TID251 - as above
            raise EdgeForgeError(
                f"waited {timeout_s:.0f} s in vain for {what}",
                "the logs are in the state folder; stop it with: edgeforge down",
            )
        time.sleep(_POLL_S)


def wait_http(layout: FleetLayout, name: str, port: int, path: str) -> None:
    """Wait until ``path`` of the process ``name`` is answered 200. Raises: EdgeForgeError."""

    def answers() -> bool:
        require_running(layout, name)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    try:
        wait_for(answers, START_TIMEOUT_S, f"{name} to answer {path}")
    except EdgeForgeError as error:
        if running_pid(layout, name) is None:
            raise
        tail = log_tail(layout, name)
        raise EdgeForgeError(f"{error.message}; it logged last:\n{tail}", error.hint) from error
