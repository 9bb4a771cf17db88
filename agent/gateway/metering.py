"""What the request path asks of the spool of usage records; ``agent.spool`` implements it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from protos.domain.resources import SlaTier
    from protos.domain.usage_record import UsageCause, UsageRecord


class UsageMeter(Protocol):
    """Keeps one record for each admitted request. Called on the event loop only; never blocks."""

    def reserve(self) -> None:
        """Reserve the space of one record, so that writing it cannot fail for lack of space.

        Raises: StorageFull (503): no billable request is admitted until there is space. Hot.
        """

    def release(self) -> None:
        """Give back a reservation that no record will use."""

    def record(self, record: UsageRecord, on_durable: Callable[[], None]) -> int:
        """Write ``record`` in a reserved space; return its number in the spool.

        ``on_durable`` is called on the event loop, not before this returns, once the record is on
        disk; a disk that fails delays it until the record is on another place. Hot.
        """

    def seen(self, number: int, cause: UsageCause) -> None:
        """Say how the answer of record ``number`` ended: COMPLETE once its last byte is written.

        It is shipped then. Nothing needs to be said of a record whose cause is not COMPLETE. After
        a crash, records of which nothing was said are AGENT_LOST; without one, a minute after they
        are on disk, CLIENT_GONE. Hot.
        """

    def shed(self, account: str, deployment: str, model: str, sla_tier: SlaTier) -> None:
        """Count a valid request that was refused for load, limits or lack of a replica."""
