"""Headers are read and written as the format says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator.core.safetensors_header import check_header, header_bytes
from coordinator.devfleet.safetensors_file import (
    Tensor,
    header_of,
    read_tensors,
    tensors_of,
    write_tensors,
)
from protos.domain.errors import InvalidRequest

TENSORS = [Tensor("b", "BF16", (3, 2)), Tensor("a", "F32", (4,))]


def test_what_is_written_is_read_in_the_order_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_tensors(path, TENSORS, [b"x" * 12, b"y" * 8, b"z" * 8])
    found = read_tensors(path)
    assert [(one.name, one.dtype, one.shape) for one in found] == [
        ("b", "BF16", (3, 2)),
        ("a", "F32", (4,)),
    ]
    assert path.read_bytes()[found[1].offset_bytes :] == b"y" * 8 + b"z" * 8
    assert set(tensors_of(tmp_path)) == {"a", "b"}


def test_the_registry_takes_the_header() -> None:
    head = header_of(TENSORS)
    length = header_bytes(head[:9], len(head) + 28, "w")
    assert (8 + length) % 8 == 0
    check_header(json.loads(head[8:]), 28, "w")


def test_too_few_bytes_for_the_tensors_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 bytes are missing"):
        write_tensors(tmp_path / "w.safetensors", TENSORS, [b"x" * 27])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 16,
        (2).to_bytes(8, "little") + b"[]",
        (8).to_bytes(8, "little") + b'{"a": 1}',
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match="is not a safetensors file"):
        read_tensors(path)


def test_whole_numbers_are_no_weights() -> None:
    with pytest.raises(InvalidRequest, match="has the type I64"):
        _ = Tensor("a", "I64", (2,)).size_bytes
