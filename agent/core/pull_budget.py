"""What all pulls of a node may take at once: memory, as pieces, and bandwidth. Pure."""

from __future__ import annotations

from agent.core.token_bucket import TokenBucket
from protos.domain.pieces import PIECE_BYTES

#: Pieces in memory at once, of all pulls: 24 MiB.
MAX_PIECES = 6


class PullBudget:
    """Shared by the planners of all pulls."""

    def __init__(
        self, bytes_per_s: float, now_mono_ms: float, *, max_pieces: int = MAX_PIECES
    ) -> None:
        self._bucket = TokenBucket(bytes_per_s, PIECE_BYTES, now_mono_ms)
        self._max_pieces = max_pieces
        self.in_flight = 0

    def take(self, size_bytes: int, now_mono_ms: float) -> bool:
        """Take the memory of a piece and its bytes, if both can be had."""
        if self.in_flight >= self._max_pieces or not self._bucket.take(size_bytes, now_mono_ms):
            return False
        self.in_flight += 1
        return True

    def give_back(self) -> None:
        """Return the memory of a piece."""
        self.in_flight -= 1

    def wait_ms(self, size_bytes: int, now_mono_ms: float) -> float:
        """Return how long the bandwidth of a piece takes to come, its memory aside."""
        return self._bucket.wait_ms(size_bytes, now_mono_ms)
