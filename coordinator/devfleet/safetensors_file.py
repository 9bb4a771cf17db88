"""Reads the headers of safetensors files and writes such files, without a library.

The laptop's fleet makes its own weights, and the product's environment has no torch.
Source: the safetensors README, section "Format".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from protos.domain.errors import InvalidRequest

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 8 * 1024**2
#: Bytes of an element. Only what weights are made of here.
ELEMENT_BYTES = {"BF16": 2, "F16": 2, "F32": 4}
_METADATA = "__metadata__"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file; ``offset_bytes`` counts from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        """Raises: InvalidRequest for a type that weights are not made of here."""
        element = ELEMENT_BYTES.get(self.dtype)
        if element is None:
            raise InvalidRequest(f"tensor {self.name} has the type {self.dtype}")
        return math.prod(self.shape) * element


def read_tensors(path: Path) -> list[Tensor]:
    """Return the tensors of a file in the order of their bytes. Raises: InvalidRequest."""
    try:
        with path.open("rb") as file:
            length_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if not 2 <= length_bytes <= _MAX_HEADER_BYTES:
                raise ValueError(f"a header of {length_bytes} bytes")
            header = json.loads(file.read(length_bytes))
        start = _LENGTH_BYTES + length_bytes
        found = [
            Tensor(name, one["dtype"], tuple(one["shape"]), start + one["data_offsets"][0])
            for name, one in header.items()
            if name != _METADATA
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidRequest(f"{path} is not a safetensors file: {error}") from error
    return sorted(found, key=lambda tensor: tensor.offset_bytes)


def tensors_of(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of every safetensors file in ``folder`` by name."""
    paths = sorted(folder.glob("*.safetensors"))
    return {tensor.name: tensor for path in paths for tensor in read_tensors(path)}


def header_of(tensors: Sequence[Tensor]) -> bytes:
    """Return the length and the header of a file with ``tensors`` one after the other.

    Its length is a multiple of 8, so that the tensors are aligned.
    """
    header: dict[str, object] = {_METADATA: {"format": "pt"}}
    end = 0
    for tensor in tensors:
        first, end = end, end + tensor.size_bytes
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [first, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def write_tensors(path: Path, tensors: Sequence[Tensor], chunks: Iterable[bytes]) -> None:
    """Write a file of ``tensors`` whose bytes, in their order, are ``chunks``.

    Raises: ValueError when the chunks have another number of bytes.
    """
    left_bytes = sum(tensor.size_bytes for tensor in tensors)
    with path.open("wb") as file:
        file.write(header_of(tensors))
        for chunk in chunks:
            file.write(chunk)
            left_bytes -= len(chunk)
    if left_bytes:
        raise ValueError(f"{path}: {left_bytes} bytes are missing or too many")
