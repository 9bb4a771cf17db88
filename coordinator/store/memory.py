"""What a process knows of the database without asking it, and the seq that it stands at.

Memory changes only by ``take``, with what was read from the change log: after each commit of this
process, and wherever a process follows one that writes. It starts from the rows, which are the log
without the changes that later ones have replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordinator.store.fact_tables import FactTables
    from coordinator.store.history import Change
    from coordinator.store.projection import Projection, TableName


@dataclass(frozen=True, slots=True)
class Tail:
    """The changes after a seq up to ``seq``; those up to ``floor`` have been compacted."""

    seq: int
    floor: int
    changes: tuple[Change, ...]


@dataclass(slots=True)
class Memory:
    """The tables for agents and the facts, as of ``seq``."""

    seq: int
    fleet_id: str
    projection: Projection
    facts: FactTables

    def take(self, news: Tail | Memory) -> tuple[TableName, ...]:
        """Advance to ``news``; return the agents' tables that may have changed.

        A whole memory replaces this one, where the tail of the log is no longer complete.
        """
        self.seq = news.seq
        if isinstance(news, Memory):
            self.projection, self.facts = news.projection, news.facts
            return self.projection.names
        self.facts.follow(news.changes)
        changed = self.projection.follow(news.changes)
        self.projection.forget(news.floor)
        return changed
