"""Files in pieces: what a pull asks for, verifies, writes and counts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

PIECE_BYTES = 4 * 1024**2
_DIGEST_BYTES = 32
#: Of the largest file that a manifest may have.
MAX_PIECE_LIST_BYTES = 64 * 1024**3 // PIECE_BYTES * _DIGEST_BYTES


def piece_count(size_bytes: int) -> int:
    """Return how many pieces a file of ``size_bytes`` has; the last one may be short."""
    return -(-size_bytes // PIECE_BYTES)


def piece_span(index: int, size_bytes: int) -> tuple[int, int]:
    """Return offset and length in bytes of piece ``index`` of a file of ``size_bytes``."""
    offset_bytes = index * PIECE_BYTES
    return offset_bytes, min(PIECE_BYTES, size_bytes - offset_bytes)


def join_digests(digests: Sequence[bytes]) -> bytes:
    """Return the piece list of a file: the SHA-256 of its pieces, one after the other."""
    return b"".join(digests)


def split_digests(piece_list: bytes) -> list[bytes]:
    """Return the digests in a piece list."""
    return [piece_list[at : at + _DIGEST_BYTES] for at in range(0, len(piece_list), _DIGEST_BYTES)]


def piece_list_sha256(digests: Sequence[bytes]) -> bytes:
    """Return a file's ``ModelFile.pieces_sha256``: empty for a file of at most one piece."""
    return hashlib.sha256(join_digests(digests)).digest() if len(digests) > 1 else b""
