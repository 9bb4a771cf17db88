"""Commits to SQLite: one transaction, and in it what it and others have added to the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from coordinator.store import audit
from coordinator.store.changes import read_memory, read_news
from coordinator.store.sqlite.connection import transaction
from coordinator.store.transaction import Transaction

if TYPE_CHECKING:
    import sqlite3

    from coordinator.store.memory import Memory, Tail
    from coordinator.store.records import AuditNote
    from coordinator.store.transaction import Write

T = TypeVar("T")


@dataclass(slots=True)
class Seat:
    """A process's right to write. Belongs to the writer's thread."""

    #: None until this process has become the writer.
    writer_epoch: int | None = None
    #: Where the log stood when it was last read.
    seq: int = 0


def take_seat(connection: sqlite3.Connection, seat: Seat) -> None:
    """Become the writer, and fence the one before."""
    with transaction(connection, "IMMEDIATE"):
        tx = Transaction(connection, seat.writer_epoch, 0)
        tx.claim(0)
    seat.writer_epoch = tx.writer_epoch


def load(connection: sqlite3.Connection, seat: Seat) -> Memory:
    """Read everything."""
    with transaction(connection, "DEFERRED"):
        memory = read_memory(connection)
    seat.seq = memory.seq
    return memory


def follow(connection: sqlite3.Connection, memory: Memory) -> None:
    """Bring ``memory`` up to date in a process that only reads."""
    with transaction(connection, "DEFERRED"):
        news = read_news(connection, memory.seq)
    memory.take(news)


def run_transaction(
    connection: sqlite3.Connection,
    seat: Seat,
    now_unix_ms: int,
    change: Write[T],
    note: AuditNote | None,
) -> tuple[T, Tail | Memory | None]:
    """Commit ``change``; return what it returned and what is new since the log was last read.

    None is new when nothing was changed. Raises: WriterFenced.
    """
    news = None
    with transaction(connection, "IMMEDIATE"):
        tx = Transaction(connection, seat.writer_epoch, now_unix_ms)
        result = change(tx)
        if note is not None:
            audit.append(note)(tx)
        if tx.claimed:
            tx.settle()
            news = read_news(connection, seat.seq)
    if news is not None:
        seat.writer_epoch, seat.seq = tx.writer_epoch, news.seq
    return result, news
