"""What the store uses of a backend: commits, questions, and what is new in the log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from coordinator.store.connection import Read
    from coordinator.store.memory import Memory, Tail
    from coordinator.store.records import AuditNote
    from coordinator.store.transaction import Write

T = TypeVar("T")


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
