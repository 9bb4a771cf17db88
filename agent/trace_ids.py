"""Trace ids: 128 bits of the system's chance, fetched for many requests at once."""

from __future__ import annotations

import os

#: Ids made of one reading: a system call for each request lets another thread in each time.
_IDS_AT_ONCE = 256
_ID_BYTES = 16


class TraceIds:
    """Makes ids that nobody can guess. Hot."""

    def __init__(self) -> None:
        self._ready: list[str] = []

    def make(self) -> str:
        """Return a new id, 32 hexadecimal digits."""
        if not self._ready:
            chance = os.urandom(_IDS_AT_ONCE * _ID_BYTES)
            self._ready = [
                chance[at : at + _ID_BYTES].hex() for at in range(0, len(chance), _ID_BYTES)
            ]
        return self._ready.pop()
