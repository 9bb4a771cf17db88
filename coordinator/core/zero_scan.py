"""Which tensors of a file hold a value other than zero, from its bytes in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordinator.core.safetensors_header import Tensor

#: Bytes of plus and minus zero in every floating type.
_ZEROS = b"\x00\x80"


class ZeroScan:
    """Takes the bytes behind a header, chunk by chunk; keeps none of them."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._left = sorted(((one.first, one.last, name) for name, one in tensors.items()))
        self._at = 0
        self._index = 0
        #: Names of the tensors seen so far that hold a value other than zero.
        self.nonzero: set[str] = set()

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes of the file."""
        end = self._at + len(chunk)
        while self._index < len(self._left):
            first, last, name = self._left[self._index]
            if first >= end:
                break
            part = chunk[max(first - self._at, 0) : last - self._at]
            if name not in self.nonzero and part.translate(None, _ZEROS):
                self.nonzero.add(name)
            if last > end:
                break
            self._index += 1
        self._at = end
