"""Compressed request bodies, under a limit."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
import zstandard

from agent.gateway.content_encoding import MAX_MEMBERS, decode_body, encoding_of
from protos.domain.errors import InvalidRequest, TooLarge, UnsupportedEncoding

BODY = b'{"model": "m", "messages": []}' * 5_000
LIMIT_BYTES = len(BODY)


def raw_deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def zstd_streamed(data: bytes) -> bytes:
    """As clients write it that do not know the length before."""
    writer = zstandard.ZstdCompressor().compressobj()
    return writer.compress(data) + writer.flush()


FORMS = [
    ("gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("zstd", zstd),
    ("zstd", zstd_streamed),
]
IDS = ["gzip", "zlib", "raw-deflate", "zstd", "zstd-streamed"]


@pytest.mark.parametrize(("encoding", "encode"), FORMS, ids=IDS)
@pytest.mark.parametrize("body", [b"", b"{}", BODY], ids=["empty", "short", "long"])
def test_a_compressed_body_is_what_was_compressed(encoding, encode, body):
    assert decode_body(encoding, encode(body), LIMIT_BYTES) == body


@pytest.mark.parametrize(("encoding", "encode"), FORMS, ids=IDS)
def test_the_limit_counts_decoded_bytes(encoding, encode):
    encoded = encode(BODY)
    assert len(encoded) < LIMIT_BYTES // 10
    with pytest.raises(TooLarge, match="decoded"):
        decode_body(encoding, encoded, LIMIT_BYTES - 1)


@pytest.mark.parametrize(("encoding", "encode"), FORMS, ids=IDS)
def test_a_decompression_bomb_ends_at_the_limit_without_filling_memory(encoding, encode):
    bomb = encode(bytes(64 * 1024 * 1024))
    limit_bytes = 1024 * 1024
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            decode_body(encoding, bomb, limit_bytes)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 3 * limit_bytes


@pytest.mark.parametrize(("encoding", "encode"), FORMS, ids=IDS)
def test_broken_data_is_400(encoding, encode):
    encoded = encode(BODY)
    for broken in (encoded[:-1], encoded[:20], b"{}", encoded + b"junk", b"\0" + encoded):
        with pytest.raises(InvalidRequest, match=encoding):
            decode_body(encoding, broken, 2 * LIMIT_BYTES)


@pytest.mark.parametrize(("encoding", "encode"), [FORMS[0], FORMS[3]], ids=["gzip", "zstd"])
def test_a_body_in_several_members_is_one_body_and_their_number_is_bounded(encoding, encode):
    assert decode_body(encoding, encode(b"ab") + encode(b"cd"), 4) == b"abcd"
    assert decode_body(encoding, encode(b"a") * MAX_MEMBERS, 100) == b"a" * MAX_MEMBERS
    with pytest.raises(InvalidRequest):
        decode_body(encoding, encode(b"a") * (MAX_MEMBERS + 1), 100)
    with pytest.raises(InvalidRequest):
        decode_body(encoding, encode(b"") * 100_000, 100)


def test_a_frame_that_needs_a_large_window_is_refused():
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    frame = writer.compress(bytes(16 * 1024 * 1024)) + writer.flush()
    with pytest.raises(InvalidRequest):
        decode_body("zstd", frame, 64 * 1024 * 1024)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b"gzip", "gzip"),
        (b"X-GZIP", "gzip"),
        (b" zstd ", "zstd"),
        (b"deflate", "deflate"),
        (b"", ""),
        (b"identity", ""),
    ],
)
def test_encodings_have_one_name(header, name):
    assert encoding_of(header) == name


@pytest.mark.parametrize("header", [b"br", b"compress", b"gzip, gzip", b"gzip,identity", b"\xff"])
def test_another_encoding_and_a_chain_of_them_are_415(header):
    with pytest.raises(UnsupportedEncoding) as caught:
        encoding_of(header)
    assert caught.value.http_status == 415
