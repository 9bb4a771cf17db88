"""Values other than zero, and values that are no numbers, whatever the chunks."""

from __future__ import annotations

import struct

import pytest

from coordinator.core.safetensors_header import Tensor
from coordinator.core.value_scan import ValueScan

TENSORS = {
    "zero": Tensor("F32", (4,), 0, 16),
    "last": Tensor("F32", (2,), 16, 24),
    "empty": Tensor("F32", (0,), 24, 24),
    "minus": Tensor("F32", (2,), 24, 32),
    "first": Tensor("F32", (2,), 32, 40),
}
DATA = bytes(16) + struct.pack("<2f", 0, 1.5) + struct.pack("<2f", -0.0, 0) + b"\1" + bytes(7)
CHUNKS_BYTES = [1, 3, 7, 16, 40, 100]


def scanned(tensors: dict[str, Tensor], data: bytes, chunk_bytes: int) -> ValueScan:
    scan = ValueScan(tensors)
    for start in range(0, len(data), chunk_bytes):
        scan.feed(data[start : start + chunk_bytes])
    return scan


@pytest.mark.parametrize("chunk_bytes", CHUNKS_BYTES)
def test_each_tensor_with_a_value_is_found(chunk_bytes):
    scan = scanned(TENSORS, DATA, chunk_bytes)
    assert scan.nonzero == {"last", "first"}
    assert scan.not_finite == set()


def encoded(dtype: str, value: float) -> bytes:
    if dtype == "BF16":
        return struct.pack("<f", value)[2:]
    return struct.pack("<f" if dtype == "F32" else "<e", value)


@pytest.mark.parametrize("chunk_bytes", CHUNKS_BYTES)
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_tensors_with_nan_or_an_infinity_are_found_and_the_largest_numbers_are_not(
    dtype, chunk_bytes
):
    largest = {"F32": 3.4028234e38, "F16": 65_504.0, "BF16": 3.3895314e38}[dtype]
    rows = {
        "largest": [largest, -largest, 1e-40, 0.0],
        "nan": [0.5, float("nan"), 0.5],
        "plus": [0.5, 0.5, float("inf")],
        "ordinary": [1.0, -2.0, 0.001],
        "minus": [float("-inf")],
    }
    tensors, data = {}, b""
    for name, values in rows.items():
        content = b"".join(encoded(dtype, value) for value in values)
        tensors[name] = Tensor(dtype, (len(values),), len(data), len(data) + len(content))
        data += content
    assert scanned(tensors, data, chunk_bytes).not_finite == {"nan", "plus", "minus"}


@pytest.mark.parametrize("chunk_bytes", [1, 3, 5, 16, 1_000])
@pytest.mark.parametrize(
    ("dtype", "fine", "odd"),
    [
        ("F32", struct.pack("<4f", 3.4e38, -3.4e38, 1e-45, -0.0), b"\xff\xff\xff\x7f"),
        ("F32", struct.pack("<4f", 3.4e38, -3.4e38, 1e-45, -0.0), b"\0\0\x80\xff"),
        ("F16", struct.pack("<4e", 65_504, -65_504, 6e-8, 0), b"\x00\x7e"),
        ("BF16", struct.pack("<4H", 0x7F7F, 0xFF7F, 0x0001, 0x8000), b"\x80\x7f"),
    ],
)
def test_a_value_that_is_not_finite_is_found_whatever_the_chunk(dtype, fine, odd, chunk_bytes):
    # Behind bytes of another type, so that elements begin anywhere.
    data = b"\xff" * 3 + fine + fine + odd + fine
    middle = 3 + len(fine)
    scan = ValueScan(
        {
            "bytes": Tensor("U8", (3,), 0, 3),
            "fine": Tensor(dtype, (4,), 3, middle),
            "odd": Tensor(dtype, (9,), middle, len(data)),
        }
    )
    for start in range(0, len(data), chunk_bytes):
        scan.feed(data[start : start + chunk_bytes])
    assert scan.not_finite == {"odd"}
