"""Stored files against their manifest: every byte is read again."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.errors import EdgeForgeError, NotFound
from protos.domain.pieces import PIECE_BYTES, piece_list_sha256

if TYPE_CHECKING:
    from coordinator.blobs.interface import BlobStore
    from protos.domain.resources import ModelFile


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome; ``problems`` says by path what is wrong with a file."""

    name: str
    files: Sequence[ModelFile]
    problems: Mapping[str, str]


async def verify_files(files: Sequence[ModelFile], blobs: BlobStore) -> dict[str, str]:
    """Return by path what is wrong with a stored file."""
    problems = {}
    for file in files:
        if problem := await _problem_of(file, blobs):
            problems[file.path] = problem
    return problems


async def _problem_of(file: ModelFile, blobs: BlobStore) -> str:
    digest, pieces = hashlib.sha256(), _Pieces()
    size_bytes = 0
    try:
        async with contextlib.aclosing(blobs.read(file.sha256)) as chunks:
            async for chunk in chunks:
                size_bytes += len(chunk)
                await asyncio.to_thread(digest.update, chunk)
                await asyncio.to_thread(pieces.update, chunk)
    except NotFound:
        return "is not stored"
    except EdgeForgeError as error:
        return f"cannot be read: {error.message}"
    if size_bytes != file.size_bytes:
        return f"has {size_bytes} bytes, not {file.size_bytes}"
    if digest.digest() != file.sha256:
        return "has other bytes than were published"
    if file.pieces_sha256 and pieces.finish() != file.pieces_sha256:
        return "has other pieces than were published"
    return await _piece_list_problem(file, blobs)


async def _piece_list_problem(file: ModelFile, blobs: BlobStore) -> str:
    """Return what is wrong with the piece list that agents are sent."""
    if not file.pieces_sha256:
        return ""
    try:
        piece_list = await blobs.piece_list(file.sha256)
    except EdgeForgeError as error:
        return f"has no piece list: {error.message}"
    if hashlib.sha256(piece_list).digest() != file.pieces_sha256:
        return "has a damaged piece list"
    return ""


class _Pieces:
    """Digests of the pieces of a file, from its bytes in order."""

    def __init__(self) -> None:
        self._digests: list[bytes] = []
        self._piece = hashlib.sha256()
        self._filled_bytes = 0

    def update(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            part = view[: PIECE_BYTES - self._filled_bytes]
            self._piece.update(part)
            self._filled_bytes += len(part)
            view = view[len(part) :]
            if self._filled_bytes == PIECE_BYTES:
                self._end_piece()

    def finish(self) -> bytes:
        """Return the SHA-256 of the piece list."""
        if self._filled_bytes:
            self._end_piece()
        return piece_list_sha256(self._digests)

    def _end_piece(self) -> None:
        self._digests.append(self._piece.digest())
        self._piece = hashlib.sha256()
        self._filled_bytes = 0
