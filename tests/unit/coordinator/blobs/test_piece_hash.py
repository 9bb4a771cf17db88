"""Piece lists computed while a file arrives are those of the whole file."""

from __future__ import annotations

import hashlib

import pytest

from coordinator.blobs.piece_hash import PieceHasher
from protos.domain.pieces import PIECE_BYTES, piece_count, piece_span

DATA = bytes(range(251)) * 40_000


@pytest.mark.parametrize("size_bytes", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, len(DATA)])
@pytest.mark.parametrize("step_bytes", [999_983, PIECE_BYTES, 20_000_000])
def test_pieces_do_not_depend_on_how_the_bytes_arrive(size_bytes, step_bytes):
    data, hasher = DATA[:size_bytes], PieceHasher()
    for start in range(0, size_bytes, step_bytes):
        hasher.update(data[start : start + step_bytes])
    spans = [piece_span(index, size_bytes) for index in range(piece_count(size_bytes))]
    expected = [hashlib.sha256(data[at : at + length]).digest() for at, length in spans]
    assert hasher.piece_list() == b"".join(expected)
    assert hasher.digest() == hashlib.sha256(data).digest()
    assert hasher.size_bytes == size_bytes
