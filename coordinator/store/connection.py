"""A connection as nouns and memory use it: statements with ``?``, the same for every backend.

Statements keep to what SQLite and PostgreSQL both understand: ``ON CONFLICT``, ``RETURNING``, no
implicit conversions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

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
