"""In how many parts a client of the hub's protocol sends a file."""

from __future__ import annotations

from typing import Final

from protos.domain.errors import InvalidRequest

#: Files above this size are sent in parts of PART_BYTES: a part that fails is sent again alone.
BASIC_BYTES: Final = 256 * 1024**2
PART_BYTES: Final = 128 * 1024**2
#: An upload is slower than anybody's line if, after a while, less arrives on average.
SLOWEST_BYTES_PER_S: Final = 4_096
_PATIENCE_MS: Final = 60_000.0


def is_too_slow(received_bytes: int, elapsed_ms: float) -> bool:
    """Return whether an upload only keeps a place that others could have."""
    late_ms = elapsed_ms - _PATIENCE_MS
    return late_ms > 0 and received_bytes < SLOWEST_BYTES_PER_S * late_ms / 1_000


def part_count(size_bytes: int) -> int:
    """Return in how many parts a file is sent; 0: at once."""
    return -(-size_bytes // PART_BYTES) if size_bytes > BASIC_BYTES else 0


def part_span(size_bytes: int, part: int) -> tuple[int, int]:
    """Return offset and length in bytes of a part, from 1. Raises: InvalidRequest."""
    if not 1 <= part <= part_count(size_bytes):
        raise InvalidRequest(f"the file has no part {part}")
    offset_bytes = (part - 1) * PART_BYTES
    return offset_bytes, min(PART_BYTES, size_bytes - offset_bytes)
