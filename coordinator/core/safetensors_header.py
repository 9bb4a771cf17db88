"""What the header of a safetensors file may say, against the file's size. Source: its README."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple, NoReturn

from protos.domain.errors import InvalidRequest

#: The header's length comes first, little endian.
LENGTH_BYTES: Final = 8
#: A header has about 120 bytes for each tensor; the largest published ones have 200 KB.
MAX_HEADER_BYTES: Final = 8 * 1024**2
MAX_TENSORS: Final = 65_536
MAX_DIMENSIONS: Final = 8
_MAX_NAME_CHARS: Final = 500
_MAX_ELEMENTS: Final = 2**48

#: Bits of an element.
_BITS: Final = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F4": 4,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
}


class Tensor(NamedTuple):
    """One tensor of a checked file; its bytes are ``first`` to ``last`` behind the header."""

    dtype: str
    shape: tuple[int, ...]
    first: int
    last: int


def header_bytes(head: bytes, file_bytes: int, path: str) -> int:
    """Return the header's length from the first 9 bytes of a file. Raises: InvalidRequest."""
    length_bytes = int.from_bytes(head[:LENGTH_BYTES], "little")
    room_bytes = min(MAX_HEADER_BYTES, file_bytes - LENGTH_BYTES)
    if head[LENGTH_BYTES : LENGTH_BYTES + 1] != b"{" or not 2 <= length_bytes <= room_bytes:
        raise InvalidRequest(
            f"{path} is not a safetensors file",
            "convert the weights with the safetensors library; renaming is not enough",
        )
    return length_bytes


def check_header(header: Mapping[str, object], data_bytes: int, path: str) -> None:
    """Refuse tensors that do not fill the ``data_bytes`` behind the header, each byte once.

    Raises: InvalidRequest.
    """
    if len(header) > MAX_TENSORS:
        raise InvalidRequest(f"{path} has {len(header)} tensors, {MAX_TENSORS} are allowed")
    spans = []
    for name, tensor in header.items():
        if len(name) > _MAX_NAME_CHARS:
            _refuse(path, name, f"has a name of {len(name)} characters")
        if name == "__metadata__":
            if not _is_metadata(tensor):
                _refuse(path, name, "is not an object of texts")
            continue
        spans.append((*_span(tensor, path, name), name))
    if not spans:
        raise InvalidRequest(f"{path} holds no tensor")
    end = 0
    for first, last, name in sorted(spans):
        if first != end:
            _refuse(path, name, f"starts at byte {first}, the one before it ends at {end}")
        end = last
    if end != data_bytes:
        raise InvalidRequest(
            f"{path} has {data_bytes} bytes of tensors, its header describes {end}",
            "the file is cut short or damaged: fetch it again",
        )


def tensors_of(header: Mapping[str, object]) -> dict[str, Tensor]:
    """Return the tensors that a checked header describes, by name."""
    found = {}
    for name, tensor in header.items():
        if name != "__metadata__" and isinstance(tensor, Mapping):
            first, last = tensor["data_offsets"]
            found[name] = Tensor(str(tensor["dtype"]), tuple(tensor["shape"]), first, last)
    return found


def _span(tensor: object, path: str, name: str) -> tuple[int, int]:
    if not isinstance(tensor, Mapping) or set(tensor) != {"dtype", "shape", "data_offsets"}:
        _refuse(path, name, "has not dtype, shape and data_offsets, and only these")
    bits = _BITS.get(str(tensor["dtype"]))
    if bits is None:
        _refuse(path, name, f"has the type {str(tensor['dtype'])[:20]!a}")
    shape = _whole_numbers(tensor["shape"], MAX_DIMENSIONS)
    offsets = _whole_numbers(tensor["data_offsets"], 2)
    if shape is None or offsets is None or len(offsets) != 2:
        _refuse(path, name, "has a shape or offsets that are not whole numbers")
    # Readers multiply from the left: a product that overflows is not mended by a zero.
    if math.prod(size for size in shape if size) > _MAX_ELEMENTS:
        _refuse(path, name, f"has a shape of more than {_MAX_ELEMENTS} elements")
    total_bits = math.prod(shape) * bits
    if total_bits % 8:
        _refuse(path, name, "ends within a byte")
    first, last = offsets
    if last - first != total_bits // 8:
        _refuse(path, name, f"has {last - first} bytes, its shape needs {total_bits // 8}")
    return first, last


def _whole_numbers(value: object, most: int) -> list[int] | None:
    """Return a list of at most ``most`` numbers of 0 or more, None for anything else."""
    if not isinstance(value, list) or len(value) > most:
        return None
    if all(type(item) is int and 0 <= item <= _MAX_ELEMENTS for item in value):
        return value
    return None


def _is_metadata(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(item, str) for item in value.values())


def _refuse(path: str, name: str, what: str) -> NoReturn:
    raise InvalidRequest(
        f"{path}: tensor {name[:100]!a} {what}",
        "convert the weights again with the safetensors library",
    )
