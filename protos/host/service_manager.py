"""Tells systemd that a service is ready or stops, so that ``systemctl start`` returns then."""

from __future__ import annotations

import logging
import os
import socket

_log = logging.getLogger(__name__)

_VARIABLE = "NOTIFY_SOCKET"


def notify_ready() -> None:
    """Say that the service answers. Does nothing where no service manager listens."""
    _notify("READY=1")


def notify_stopping() -> None:
    """Say that the service has begun to stop."""
    _notify("STOPPING=1")


def _notify(state: str) -> None:
    """Source: sd_notify(3), "Notes": one datagram; a leading @ is an abstract address."""
    address = os.environ.get(_VARIABLE, "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.connect(address)
            sock.sendall(state.encode())
    except OSError as error:
        _log.warning("the service manager was not told %s: %s", state, error)
