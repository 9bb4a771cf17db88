"""A file that is being pulled: its pieces in place, and a bitmap of those written.

A piece is written only after its digest was checked. Bits say what was written, not what is good:
a piece that the bitmap claims is verified again when the file is opened, so a process that is
killed, or a host that loses power, at any moment costs at most the pieces that were in flight.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from agent.artifacts.sources import WrongPiece
from protos.domain.pieces import PIECE_BYTES, piece_count, piece_span
from protos.host.files import sync_folder

_BITMAP_SUFFIX = ".pieces"


class PieceFile:
    """``path`` holds the pieces, and ``path`` + ".pieces" the bitmap. Blocking; any thread.

    ``digests`` are the SHA-256 of its pieces, in order.
    """

    def __init__(self, path: Path, size_bytes: int, digests: Sequence[bytes]) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.digests = digests
        self._bitmap_path = path.with_name(path.name + _BITMAP_SUFFIX)
        self._bitmap = bytearray(-(-piece_count(size_bytes) // 8))
        #: Pieces are written by several threads.
        self._lock = threading.Lock()
        self._fd = self._bitmap_fd = -1

    def open(self) -> int:
        """Open or make both files, and return the pieces that are there and verified as bits.

        Takes the time to hash what an earlier pull wrote. Raises: OSError.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._fd = os.open(self.path, flags, 0o600)
            self._bitmap_fd = os.open(self._bitmap_path, flags, 0o600)
            found_bytes = os.fstat(self._fd).st_size
            if found_bytes != self.size_bytes:
                os.ftruncate(self._fd, self.size_bytes)
            self._verify_claimed(os.pread(self._bitmap_fd, len(self._bitmap), 0))
        except BaseException:
            self.close()
            raise
        return int.from_bytes(self._bitmap, "little")

    def _verify_claimed(self, claimed: bytes) -> None:
        buffer = bytearray(min(PIECE_BYTES, self.size_bytes))
        claims = int.from_bytes(claimed, "little")
        for index, digest in enumerate(self.digests):
            if claims >> index & 1:
                offset_bytes, length_bytes = piece_span(index, self.size_bytes)
                view = memoryview(buffer)[:length_bytes]
                got_bytes = os.preadv(self._fd, [view], offset_bytes)
                if got_bytes == length_bytes and hashlib.sha256(view).digest() == digest:
                    self._bitmap[index >> 3] |= 1 << (index & 7)
        if bytes(self._bitmap) != claimed:
            os.pwrite(self._bitmap_fd, self._bitmap, 0)

    def accept(self, index: int, data: memoryview, digest: bytes) -> None:
        """Write a piece if its SHA-256 is the right one. Raises: WrongPiece, OSError."""
        if digest != self.digests[index]:
            raise WrongPiece(
                f"piece {index} of {self.path.name} has the wrong digest",
                "it is pulled from elsewhere; if the coordinator sent it, import the object again",
            )
        self.write(index, data)

    def write(self, index: int, data: bytes | bytearray | memoryview) -> None:
        """Write a piece whose digest was checked, then its bit. Raises: OSError."""
        at_bytes, _ = piece_span(index, self.size_bytes)
        left = memoryview(data)
        while left:
            written = os.pwrite(self._fd, left, at_bytes)
            left, at_bytes = left[written:], at_bytes + written
        with self._lock:
            self._bitmap[index >> 3] |= 1 << (index & 7)
            os.pwrite(self._bitmap_fd, self._bitmap[index >> 3 : (index >> 3) + 1], index >> 3)

    def read(self, index: int, offset_bytes: int, length_bytes: int) -> bytes:
        """Return a part of a piece that is there. Raises: OSError."""
        at_bytes, _ = piece_span(index, self.size_bytes)
        return os.pread(self._fd, length_bytes, at_bytes + offset_bytes)

    def publish(self, target: Path) -> None:
        """Give the complete file its name. Raises: OSError."""
        os.fsync(self._fd)
        self.path.rename(target)
        sync_folder(target.parent)
        self._bitmap_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close both files; a second time does nothing."""
        for fd in (self._fd, self._bitmap_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._bitmap_fd = -1
