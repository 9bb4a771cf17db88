"""What is tracked of other hubs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.store.adoption_facts import TrackRow
from coordinator.store.fact_types import FactType
from protos.domain.errors import Conflict, NotFound, TooLarge

if TYPE_CHECKING:
    from coordinator.core.adoption import Track
    from coordinator.store.transaction import Transaction, Write

MAX_TRACKS = 500


def add(track: Track) -> Write[None]:
    """Track a repository. Raises: Conflict if it is tracked already, TooLarge."""

    def write(tx: Transaction) -> None:
        if tx.fact(TrackRow, track.upstream) is not None:
            raise Conflict(
                f"{track.upstream} is tracked already",
                "edgeforge model tracks shows it",
                retryable=False,
            )
        if len(tx.keys(FactType.TRACK)) >= MAX_TRACKS:
            raise TooLarge(f"{MAX_TRACKS} repositories are tracked, which are all that may be")
        tx.put_fact(TrackRow(track))

    return write


def replace(before: Track, after: Track) -> Write[None]:
    """Put what is known of a track now, unless it was changed or removed meanwhile."""

    def write(tx: Transaction) -> None:
        present = tx.fact(TrackRow, before.upstream)
        if present is not None and present.track == before:
            tx.put_fact(TrackRow(after))

    return write


def remove(upstream: str) -> Write[None]:
    """Track it no longer. NotFound."""

    def write(tx: Transaction) -> None:
        if tx.fact(TrackRow, upstream) is None:
            raise NotFound(f"{upstream} is not tracked", "edgeforge model tracks shows what is")
        tx.remove_fact(FactType.TRACK, upstream)

    return write
