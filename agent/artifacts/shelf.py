"""What other nodes may have of this disk: verified pieces of objects that are ordered here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from agent.artifacts.piece_lists import read_list
from protos.domain.pieces import piece_count, piece_span

if TYPE_CHECKING:
    from agent.artifacts.objects import ObjectStore
    from protos.domain.resources import ModelFile


class FilePiece:
    """One piece of a file, open for reading."""

    def __init__(self, path: Path, offset_bytes: int, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._offset_bytes = offset_bytes
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def read_nowait(self, offset_bytes: int, length_bytes: int) -> bytearray | None:
        """Return a part if all of it is in the page cache."""
        buffer = bytearray(length_bytes)
        try:
            got_bytes = os.preadv(
                self._fd, [buffer], self._offset_bytes + offset_bytes, os.RWF_NOWAIT
            )
        except OSError:  # nothing of it is, or the file system cannot tell
            return None
        return buffer if got_bytes == length_bytes else None

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Return a part. Blocking. Raises: OSError."""
        return os.pread(self._fd, length_bytes, self._offset_bytes + offset_bytes)

    def close(self) -> None:
        os.close(self._fd)


class PieceShelf:
    """Implements ``peers.pieces.Shelf`` over the node's store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def pieces_here(self, name: str) -> Mapping[str, int] | None:
        """Return by file the verified pieces as bits; None for an object not ordered here."""
        files = self._store.ordered_files(name)
        if not files:
            return None
        return {one.sha256.hex(): self._have(name, one) for one in files}

    def list_here(self, name: str, digest: str) -> bytes | None:
        """Return a file's piece list. Blocking."""
        file = self._file(name, digest)
        return read_list(self._store.list_path(file)) if file is not None else None

    def open_piece(self, name: str, digest: str, index: int) -> FilePiece | None:
        """Return a verified piece, to be closed; None if it is not here."""
        file = self._file(name, digest)
        if file is None or not self._have(name, file) >> index & 1:
            return None
        offset_bytes, size_bytes = piece_span(index, file.size_bytes)
        for path in self._store.paths_of_file(file):
            try:
                return FilePiece(path, offset_bytes, size_bytes)
            except OSError:
                continue
        return None

    def _file(self, name: str, digest: str) -> ModelFile | None:
        files = self._store.ordered_files(name)
        return next((one for one in files if one.sha256.hex() == digest), None)

    def _have(self, name: str, file: ModelFile) -> int:
        whole = (1 << piece_count(file.size_bytes)) - 1
        return whole if self._store.has_file(name, file) else self._store.pieces_of(name, file)
