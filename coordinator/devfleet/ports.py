"""Reserves ports for processes that bind them seconds later, so that fleets share none.

A free port may be bound by another start meanwhile, or belong to a process that is being restarted.
So each fleet claims its ports for a while, in a file that all starts of this user read; it may take
its own claims again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

#: Long enough for a slow start, and for tests that restart processes.
CLAIM_S = 600.0
#: Range searched when the preferred port is taken: below the kernel's range for outgoing
#: connections, which could take a port before its process binds it.
_ANY = range(20_000, 32_768)
_MAX_FILE_BYTES = 1024 * 1024

#: Port -> end of the claim, and its owner.
_Claims = dict[int, tuple[float, str]]


def claims_file() -> Path:
    """Return the file of this user's claims."""
    return Path(tempfile.gettempdir()) / f"edgeforge-ports-{os.getuid()}.json"


class Ports:
    """Returns each port once: the preferred one if it is free and unclaimed, else another.

    ``owner`` is the folder of the fleet.
    """

    def __init__(self, owner: str, claims: Path | None = None) -> None:
        self._owner = owner
        self._claims = claims or claims_file()
        self._taken: set[int] = set()

    def take(self, preferred: int = 0) -> int:
        """Return a port on loopback, claimed for ``CLAIM_S``."""
        with self._locked_claims() as claims:
            now_s = time.monotonic()  # noqa: TID251 - the same clock for all processes of a host
            for port, (until_s, _owner) in list(claims.items()):
                if not now_s < until_s <= now_s + CLAIM_S:  # over, or from before a reboot
                    del claims[port]
            others = {port for port, (_until_s, owner) in claims.items() if owner != self._owner}
            port = preferred
            while not port or port in self._taken or port in others or not _is_free(port):
                port = random.choice(_ANY)
            claims[port] = now_s + CLAIM_S, self._owner
        self._taken.add(port)
        return port

    @contextlib.contextmanager
    def _locked_claims(self) -> Iterator[_Claims]:
        """Yield the claims of all starts and write them back; none if the file cannot be used."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self._claims, flags, 0o600)
        except OSError:  # a full or foreign folder must not keep a fleet from starting
            yield {}
            return
        with os.fdopen(descriptor, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            claims = _read(file.read(_MAX_FILE_BYTES))
            yield claims
            file.seek(0)
            file.truncate()
            json.dump(claims, file)


def _read(text: str) -> _Claims:
    try:
        claims = json.loads(text).items()
        return {int(port): (float(until_s), str(owner)) for port, (until_s, owner) in claims}
    except (ValueError, TypeError, AttributeError):
        return {}


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
