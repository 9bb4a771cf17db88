"""What the store uses of a backend: statements with ``?``, commits, and what is new in the log.

Statements keep to what SQLite and PostgreSQL both understand: ``ON CONFLICT``, ``RETURNING``, no
implicit conversions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from coordinator.store.memory import Memory, Tail
    from coordinator.store.records import AuditNote
    from coordinator.store.transaction import Write

T = TypeVar("T")

Value = str | int | float | bytes | None


class Cursor(Protocol):
    """The result of one statement."""

    @property
    def rowcount(self) -> int:
        """Rows that the statement changed."""

    def fetchone(self) -> Any:  # noqa: ANN401  # columns are as the statement says
        """Return the next row, None after the last."""

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the rows that are left."""


class Connection(Protocol):
    """A connection, used in one thread."""

    def execute(self, sql: str, parameters: Sequence[Value] = ..., /) -> Cursor:
        """Run one statement."""


#: A question that ``Store.read`` asks the database.
Read = Callable[[Connection], T]


class Backend(Protocol):
    """An open database of this version. All ``async`` methods raise StoreUnavailable."""

    @property
    def available(self) -> bool:
        """Whether the last write, or the last probe since, succeeded."""

    async def start(self) -> Memory:
        """Become the writer and read everything; called once."""

    async def write(
        self,
        change: Write[T],
        note: AuditNote | None,
        publish: Callable[[Tail | Memory], None],
    ) -> T:
        """Commit ``change`` and its audit note in one transaction.

        ``publish`` gets what is new in the log on the event loop, in the order of the commits,
        before this returns, and also when the caller was cancelled meanwhile. Raises: WriterFenced.
        """

    async def read(self, question: Read[T]) -> T:
        """Query the database."""

    async def backup(self, target: Path) -> None:
        """Write a consistent copy to ``target``, which must not exist."""

    async def close(self) -> None:
        """Finish the queued work and release the database."""
