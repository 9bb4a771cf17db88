"""Fills in what a manifest says about the pieces of its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from protos.domain.pieces import piece_count, piece_list_sha256, split_digests

if TYPE_CHECKING:
    from coordinator.blobs.interface import BlobStore
    from protos.domain.resources import ModelFile


async def with_pieces(files: Sequence[ModelFile], blobs: BlobStore) -> tuple[ModelFile, ...]:
    """Return ``files`` with the digests of their piece lists, whatever they said about them.

    Raises: NotFound when a blob is not stored, StoreUnavailable.
    """
    filled = []
    for file in files:
        pieces_sha256 = b""
        if piece_count(file.size_bytes) > 1:
            digests = split_digests(await blobs.piece_list(file.sha256))
            pieces_sha256 = piece_list_sha256(digests)
        filled.append(replace(file, pieces_sha256=pieces_sha256))
    return tuple(filled)


def lacks_pieces(files: Sequence[ModelFile]) -> bool:
    """Return whether a manifest was stored by a version that did not know pieces."""
    return any(piece_count(file.size_bytes) > 1 and not file.pieces_sha256 for file in files)
