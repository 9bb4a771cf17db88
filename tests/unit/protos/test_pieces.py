"""Pieces cover a file once, and the last may be short."""

from __future__ import annotations

import hashlib

import pytest

from protos.domain.pieces import (
    PIECE_BYTES,
    join_digests,
    piece_count,
    piece_list_sha256,
    piece_span,
    split_digests,
)


@pytest.mark.parametrize(
    "size_bytes", [1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 7 * PIECE_BYTES + 5]
)
def test_the_pieces_of_a_file_cover_it_once(size_bytes):
    spans = [piece_span(index, size_bytes) for index in range(piece_count(size_bytes))]
    assert [offset for offset, _ in spans] == list(range(0, size_bytes, PIECE_BYTES))
    assert sum(length for _, length in spans) == size_bytes
    assert all(0 < length <= PIECE_BYTES for _, length in spans)


def test_a_piece_list_is_read_as_it_was_written():
    digests = [hashlib.sha256(bytes([number])).digest() for number in range(3)]
    assert split_digests(join_digests(digests)) == digests
    assert piece_list_sha256(digests) == hashlib.sha256(b"".join(digests)).digest()


def test_a_file_of_one_piece_has_no_list():
    assert piece_list_sha256([bytes(32)]) == b""
