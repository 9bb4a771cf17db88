"""How files come in: at once or in parts, and which account has sent which content.

An account may commit a file only after it has sent it whole, or can read an object that holds it:
knowing a digest is no proof of having the file.
"""

from __future__ import annotations

from collections import OrderedDict

from protos.domain.errors import InvalidRequest

#: Files above this size are sent in parts of PART_BYTES: a part that fails is sent again alone.
BASIC_BYTES = 256 * 1024**2
PART_BYTES = 128 * 1024**2
#: Contents that are remembered for one account, and accounts.
MAX_SENT, MAX_ACCOUNTS = 20_000, 1_000


def part_count(size_bytes: int) -> int:
    """Return in how many parts a file is sent; 0: at once."""
    return -(-size_bytes // PART_BYTES) if size_bytes > BASIC_BYTES else 0


def part_span(size_bytes: int, part: int) -> tuple[int, int]:
    """Return offset and length in bytes of a part, from 1. Raises: InvalidRequest."""
    if not 1 <= part <= part_count(size_bytes):
        raise InvalidRequest(f"the file has no part {part}")
    offset_bytes = (part - 1) * PART_BYTES
    return offset_bytes, min(PART_BYTES, size_bytes - offset_bytes)


class SentContents:
    """Which account has sent which content; bounded, the longest unused go first."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, OrderedDict[bytes, None]] = OrderedDict()

    def add(self, account_id: str, sha256: bytes) -> None:
        """Remember a content."""
        sent = self._of.setdefault(account_id, OrderedDict())
        self._of.move_to_end(account_id)
        sent[sha256] = None
        sent.move_to_end(sha256)
        if len(sent) > MAX_SENT:
            sent.popitem(last=False)
        if len(self._of) > MAX_ACCOUNTS:
            self._of.popitem(last=False)

    def has(self, account_id: str, sha256: bytes) -> bool:
        """Return whether the account has sent it."""
        return sha256 in self._of.get(account_id, ())
