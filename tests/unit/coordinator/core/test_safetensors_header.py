"""Headers of weights: each byte of the file is of one tensor, whatever the header claims."""

from __future__ import annotations

import pytest

from coordinator.core import safetensors_header
from coordinator.core.safetensors_header import check_header, header_bytes
from protos.domain.errors import InvalidRequest


def tensor(first, last, shape=None, dtype="U8"):
    shape = [last - first] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


def test_whole_headers_pass():
    check_header({"a": tensor(0, 8), "b": tensor(8, 24, [2, 4], "BF16")}, 24, "m")
    check_header({"__metadata__": {"format": "pt"}, "a": tensor(0, 2, [4], "F4")}, 2, "m")
    check_header({"empty": tensor(0, 0, [0, 3]), "a": tensor(0, 4, [], "F32")}, 4, "m")


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({}, "no tensor"),
        ({"a": tensor(0, 4)}, "8 bytes of tensors, its header describes 4"),
        ({"a": tensor(0, 16)}, "describes 16"),
        ({"a": tensor(4, 8)}, "starts at byte 4"),
        ({"a": tensor(0, 8), "b": tensor(4, 8)}, "starts at byte 4"),
        ({"a": tensor(0, 4), "b": tensor(6, 8)}, "starts at byte 6"),
        ({"a": tensor(0, 8, [9])}, "its shape needs 9"),
        ({"a": tensor(0, 8, [2**40, 2**40])}, "elements"),
        ({"a": tensor(0, 8, [-1, -8])}, "whole numbers"),
        ({"a": tensor(0, 8, [True])}, "whole numbers"),
        ({"a": tensor(0, 8, [1.5])}, "whole numbers"),
        ({"a": tensor(0, 8, [1] * 9)}, "whole numbers"),
        ({"a": tensor(0, 8) | {"data_offsets": [8]}}, "whole numbers"),
        ({"a": tensor(0, 8) | {"data_offsets": [8, 0]}}, "-8 bytes"),
        ({"a": tensor(0, 8, dtype="PICKLE")}, "PICKLE"),
        ({"a": tensor(0, 8) | {"file": "/etc/passwd"}}, "only these"),
        ({"a": [0, 8]}, "only these"),
        ({"a" * 501: tensor(0, 8)}, "501 characters"),
        ({"__metadata__": {"a": {}}, "a": tensor(0, 8)}, "not an object of texts"),
        ({"__metadata__": tensor(0, 8)}, "not an object of texts"),
    ],
)
def test_headers_that_do_not_fit_the_file_are_refused(header, says):
    with pytest.raises(InvalidRequest, match=says):
        check_header(header, 8, "m.safetensors")


def test_the_number_of_tensors_is_limited():
    many = {str(index): tensor(0, 0) for index in range(safetensors_header.MAX_TENSORS + 1)}
    with pytest.raises(InvalidRequest, match="are allowed"):
        check_header(many, 0, "m.safetensors")


@pytest.mark.parametrize(
    ("length_bytes", "file_bytes"),
    [
        (1, 1_000),
        (993, 1_000),
        (2**63, 1_000),
        (2**64 - 1, 2**40),
        (safetensors_header.MAX_HEADER_BYTES + 1, 2**40),
    ],
)
def test_a_length_beyond_the_file_is_refused_before_it_is_read(length_bytes, file_bytes):
    head = length_bytes.to_bytes(8, "little") + b"{"
    with pytest.raises(InvalidRequest, match="not a safetensors file"):
        header_bytes(head, file_bytes, "m.safetensors")


def test_a_length_within_the_file_is_returned():
    assert header_bytes((992).to_bytes(8, "little") + b"{", 1_000, "m") == 992


@pytest.mark.parametrize(
    ("shape", "dtype", "last", "says"),
    [
        ([2**40, 2**40, 0], "U8", 0, "elements"),
        ([3], "F4", 2, "within a byte"),
        ([2**63], "U8", 0, "whole numbers"),
    ],
)
def test_shapes_that_readers_cannot_multiply_are_refused(shape, dtype, last, says):
    with pytest.raises(InvalidRequest, match=says):
        check_header({"a": tensor(0, last, shape, dtype), "b": tensor(last, 9)}, 9, "m")
