"""Which tensors of a file hold a value other than zero, or none, from its bytes in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from coordinator.core.safetensors_header import Tensor

#: Bytes of plus and minus zero in every floating type.
_ZEROS: Final = b"\x00\x80"


class _Format(NamedTuple):
    """Where a floating type keeps its exponent: all its bits are set in NaN and in infinities."""

    size_bytes: int
    #: Bits of the exponent in the last byte of an element, and in the byte before it.
    high: int
    low: int


_FORMATS: Final[Mapping[str, _Format]] = {
    "F16": _Format(2, 0x7C, 0),
    "BF16": _Format(2, 0x7F, 0x80),
    "F32": _Format(4, 0x7F, 0x80),
}


def _marks(mask: int) -> bytes:
    """Return a table that turns bytes with every bit of ``mask`` into 1, others into 0."""
    return bytes(byte & mask == mask for byte in range(256))


_TABLES: Final = {mask: _marks(mask) for mask in (0, 0x7C, 0x7F, 0x80)}


class ValueScan:
    """Takes the bytes behind a header, chunk by chunk; keeps less than one element of them."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._left = sorted(
            ((one.first, one.last, name, one.dtype) for name, one in tensors.items())
        )
        self._at = 0
        self._index = 0
        #: The start of an element whose end is in the next chunk.
        self._begun = b""
        #: Names of the tensors seen so far that hold a value other than zero.
        self.nonzero: set[str] = set()
        #: Names of those that hold NaN or an infinity; only of F16, BF16 and F32.
        self.not_finite: set[str] = set()

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes of the file."""
        end = self._at + len(chunk)
        while self._index < len(self._left):
            first, last, name, dtype = self._left[self._index]
            if first >= end:
                break
            part = chunk[max(first - self._at, 0) : last - self._at]
            if name not in self.nonzero and part.translate(None, _ZEROS):
                self.nonzero.add(name)
            if (layout := _FORMATS.get(dtype)) is not None:
                self._look_at_exponents(name, part, layout)
            if last > end:
                break
            self._index += 1
            self._begun = b""
        self._at = end

    def _look_at_exponents(self, name: str, part: bytes, layout: _Format) -> None:
        data = self._begun + part if self._begun else part
        whole = len(data) - len(data) % layout.size_bytes
        self._begun = data[whole:]
        if name not in self.not_finite and _has_full_exponent(data[:whole], layout):
            self.not_finite.add(name)


def _has_full_exponent(data: bytes, layout: _Format) -> bool:
    step = layout.size_bytes
    high = data[step - 1 :: step].translate(_TABLES[layout.high])
    if b"\x01" not in high:
        return False
    low = data[step - 2 :: step].translate(_TABLES[layout.low])
    return bool(int.from_bytes(high, "little") & int.from_bytes(low, "little"))
