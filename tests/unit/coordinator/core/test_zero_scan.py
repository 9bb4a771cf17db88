"""Values other than zero, whatever the chunks."""

from __future__ import annotations

import struct

import pytest

from coordinator.core.safetensors_header import Tensor
from coordinator.core.zero_scan import ZeroScan

TENSORS = {
    "zero": Tensor("F32", (4,), 0, 16),
    "last": Tensor("F32", (2,), 16, 24),
    "empty": Tensor("F32", (0,), 24, 24),
    "minus": Tensor("F32", (2,), 24, 32),
    "first": Tensor("F32", (2,), 32, 40),
}
DATA = bytes(16) + struct.pack("<2f", 0, 1.5) + struct.pack("<2f", -0.0, 0) + b"\1" + bytes(7)


@pytest.mark.parametrize("chunk_bytes", [1, 3, 7, 16, 40, 100])
def test_each_tensor_with_a_value_is_found(chunk_bytes):
    scan = ZeroScan(TENSORS)
    for start in range(0, len(DATA), chunk_bytes):
        scan.feed(DATA[start : start + chunk_bytes])
    assert scan.nonzero == {"last", "first"}
