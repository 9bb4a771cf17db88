"""Trace ids: 128 bits from the system's random source, read for many requests at once."""

from __future__ import annotations

import os

#: Ids made from one system call: each call may switch to another thread.
_IDS_PER_READ = 256
_ID_BYTES = 16


class TraceIds:
    """Makes unguessable ids. Hot."""

    def __init__(self) -> None:
        self._ready: list[str] = []

    def make(self) -> str:
        """Return a new id, 32 hexadecimal digits."""
        if not self._ready:
            random_bytes = os.urandom(_IDS_PER_READ * _ID_BYTES)
            self._ready = [
                random_bytes[at : at + _ID_BYTES].hex()
                for at in range(0, len(random_bytes), _ID_BYTES)
            ]
        return self._ready.pop()
