"""Lines of the change log, and the recent ones of a table in memory, for deltas."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from protos.domain.routing_table import Delta, Table

if TYPE_CHECKING:
    from coordinator.store.facts import RowType

#: Changes of one table kept for deltas; an agent further behind gets a snapshot.
HISTORY_LIMIT = 8_192


class Change(NamedTuple):
    """One line of the change log; ``payload`` is None for a removed row."""

    seq: int
    type: RowType
    scope: str
    key: str
    payload: bytes | None

    def __repr__(self) -> str:
        """Return everything but the payload, which may be secret."""
        return f"Change({self.seq}, {self.type}, {self.scope!r}, {self.key!r})"


class History:
    """The versions at which keys of one table changed, newest last, back to ``floor``."""

    def __init__(self, floor: int = 0) -> None:
        #: All changes after this version are kept.
        self.floor = floor
        self._seqs: list[int] = []
        self._keys: list[str] = []

    def append(self, seq: int, key: str) -> None:
        """Add the newest change; over the limit the older half is dropped."""
        self._seqs.append(seq)
        self._keys.append(key)
        if len(self._seqs) > HISTORY_LIMIT:
            self.forget(self._seqs[len(self._seqs) // 2])

    def forget(self, seq: int) -> None:
        """Drop the changes up to ``seq``."""
        gone = bisect_right(self._seqs, seq)
        if gone:
            self.floor = self._seqs[gone - 1]
            del self._seqs[:gone], self._keys[:gone]

    def delta(self, table: Table, version: int) -> Delta | None:
        """Return the push that leads from ``version`` to ``table``, None if changes are missing."""
        current = table.at.version
        if version > current or (version < self.floor and version != current):
            return None
        touched = dict.fromkeys(self._keys[bisect_right(self._seqs, version) :])
        return Delta(
            type=table.type,
            epoch=table.at.epoch,
            from_version=version,
            to_version=current,
            upserts={key: table.rows[key] for key in touched if key in table.rows},
            removes=tuple(key for key in touched if key not in table.rows),
            result_digest=table.digest,
        )
