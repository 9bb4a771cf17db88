"""Which tensors of a file hold a value that is no number or infinite, from its bytes in order.

An adapter shares engines with other tenants, and what is not finite spreads to all that is
computed from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from coordinator.core.safetensors_header import Tensor

#: Type -> bytes of an element. Values are little endian: the exponent is in the last bytes.
_WIDTHS: Final = {"F16": 2, "BF16": 2, "F32": 4}
#: Bytes -> 1 where an exponent of all ones can be: of F16 in its last byte, of the others in two.
_F16_LAST: Final = bytes(one & 0x7C == 0x7C for one in range(256))
_LAST: Final = bytes(one & 0x7F == 0x7F for one in range(256))
_BEFORE: Final = bytes(one >= 0x80 for one in range(256))


class FiniteScan:
    """Takes the bytes behind a header, chunk by chunk; keeps less than an element."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._left = sorted((one.first, one.last, name) for name, one in tensors.items())
        self._types = {name: one.dtype for name, one in tensors.items()}
        self._at = 0
        self._index = 0
        self._cut = b""
        #: Names of the tensors seen so far that hold such a value.
        self.found: set[str] = set()

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes of the file."""
        end = self._at + len(chunk)
        while self._index < len(self._left):
            first, last, name = self._left[self._index]
            if first >= end:
                break
            part = self._cut + chunk[max(first - self._at, 0) : last - self._at]
            dtype = self._types[name]
            width = _WIDTHS.get(dtype, 1)
            whole = len(part) - len(part) % width
            self._cut = part[whole:]
            if name not in self.found and _is_odd(dtype, part[:whole]):
                self.found.add(name)
            if last > end:
                break
            self._cut = b""
            self._index += 1
        self._at = end


def _is_odd(dtype: str, data: bytes) -> bool:
    """Return whether some value of ``data`` is not finite."""
    width = _WIDTHS.get(dtype)
    if width is None:
        return False
    last = data[width - 1 :: width]
    if dtype == "F16":
        return b"\1" in last.translate(_F16_LAST)
    marked = last.translate(_LAST)
    if b"\1" not in marked:
        return False
    before = data[width - 2 :: width].translate(_BEFORE)
    return bool(int.from_bytes(marked, "little") & int.from_bytes(before, "little"))
