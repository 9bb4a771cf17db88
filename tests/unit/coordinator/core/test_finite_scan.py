"""Values that are not finite, whatever the chunks and types."""

from __future__ import annotations

import struct

import pytest

from coordinator.core.finite_scan import FiniteScan
from coordinator.core.safetensors_header import Tensor

NAN, INF = float("nan"), float("inf")
#: The largest finite values, and zeros, beside what is not finite.
FINE = {
    "F32": struct.pack("<4f", 3.4e38, -3.4e38, 1e-45, -0.0),
    "F16": struct.pack("<4e", 65_504, -65_504, 6e-8, 0),
    "BF16": struct.pack("<4H", 0x7F7F, 0xFF7F, 0x0001, 0x8000),
}
ODD = {
    "F32": (struct.pack("<f", NAN), struct.pack("<f", INF), struct.pack("<f", -INF)),
    "F16": (struct.pack("<e", NAN), struct.pack("<e", INF), struct.pack("<e", -INF)),
    "BF16": (b"\xc0\x7f", b"\x80\x7f", b"\x80\xff"),
}


def scanned(tensors: dict[str, Tensor], data: bytes, chunk_bytes: int) -> set[str]:
    scan = FiniteScan(tensors)
    for start in range(0, len(data), chunk_bytes):
        scan.feed(data[start : start + chunk_bytes])
    return scan.found


@pytest.mark.parametrize("chunk_bytes", [1, 3, 5, 16, 1_000])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_a_value_that_is_not_finite_is_found(dtype, chunk_bytes):
    for odd in ODD[dtype]:
        # Behind bytes of another type, so that elements begin anywhere.
        data = b"\xff" * 3 + FINE[dtype] + FINE[dtype] + odd + FINE[dtype]
        middle = 3 + len(FINE[dtype])
        tensors = {
            "bytes": Tensor("U8", (3,), 0, 3),
            "fine": Tensor(dtype, (4,), 3, middle),
            "odd": Tensor(dtype, (9,), middle, len(data)),
        }
        assert scanned(tensors, data, chunk_bytes) == {"odd"}


def test_an_empty_file_holds_nothing():
    assert scanned({"a": Tensor("F32", (0,), 0, 0)}, b"", 1) == set()
