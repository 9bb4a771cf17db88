"""Reads the head of a GGUF file, each length against the file's size before anything is allocated.

Only the standard library is used: the converter loads this file by its path, with the engine
environment's Python, before it imports the libraries that trust a file's own numbers.

Source: the GGUF specification of ggml; sizes of blocks as in ggml's own table.
"""

from __future__ import annotations

import math
import struct
from typing import BinaryIO, NamedTuple

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_KEYS = 4_096
MAX_TENSORS = 65_536
MAX_NAME_BYTES = 1_024
MAX_TEXT_BYTES = 4 * 1024**2
MAX_ARRAY_ITEMS = 8_388_608
#: Arrays within arrays; published files have none.
MAX_ARRAY_DEPTH = 2
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 65_536
MAX_BLOCKS = 1_024
MAX_EMBEDDING = 131_072
#: Any other whole number of a model's keys: the longest context that the registry takes.
MAX_SIZE = 16_777_216

_STRING, _ARRAY = 8, 9
#: Type of a value -> its format.
_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
#: Type of a tensor -> elements of a block, bytes of a block.
_BLOCKS = {
    0: (1, 4),
    1: (1, 2),
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    9: (32, 40),
    10: (256, 84),
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    15: (256, 292),
    16: (256, 66),
    17: (256, 74),
    18: (256, 98),
    19: (256, 50),
    20: (32, 18),
    21: (256, 110),
    22: (256, 82),
    23: (256, 136),
    24: (1, 1),
    25: (1, 2),
    26: (1, 4),
    27: (1, 8),
    28: (1, 8),
    29: (256, 56),
    30: (1, 2),
    34: (256, 54),
    35: (256, 66),
}
#: What each block of layers must hold, beside its attention and its feed-forward part.
_EVERY_BLOCK = ("attn_norm.weight", "attn_output.weight")
_ATTENTION = (("attn_q.weight", "attn_k.weight", "attn_v.weight"), ("attn_qkv.weight",))
_FEED_FORWARD = (
    ("ffn_up.weight", "ffn_down.weight"),
    ("ffn_up_exps.weight", "ffn_down_exps.weight"),
)


class BadGguf(Exception):
    """What is wrong with the file."""


class Tensor(NamedTuple):
    """A tensor's place: its dimensions, fastest first, and its bytes from the start of the data."""

    name: str
    dimensions: tuple[int, ...]
    offset: int
    size_bytes: int


class Layout(NamedTuple):
    """What the head of a file says. Arrays are left out of ``values``, but for their lengths."""

    values: dict[str, object]
    array_lengths: dict[str, int]
    tensors: dict[str, Tensor]

    @property
    def elements(self) -> int:
        """Return how many numbers all tensors hold."""
        return sum(math.prod(tensor.dimensions) for tensor in self.tensors.values())


class _Source:
    """A file, read only as far as it goes."""

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self._stream = stream
        self.position = 0
        self.size_bytes = size_bytes

    @property
    def left_bytes(self) -> int:
        return self.size_bytes - self.position

    def take(self, count: int, what: str) -> bytes:
        self.need(count, what)
        data = self._stream.read(count)
        if len(data) != count:
            raise BadGguf(f"the file ends within {what}")
        self.position += count
        return data

    def skip(self, count: int, what: str) -> None:
        self.need(count, what)
        self._stream.seek(count, 1)
        self.position += count

    def need(self, count: int, what: str) -> None:
        if count > self.left_bytes:
            raise BadGguf(f"{what} needs {count} bytes, {self.left_bytes} are left of the file")

    def number(self, form: str, what: str) -> int:
        value: int = struct.unpack(form, self.take(struct.calcsize(form), what))[0]
        return value

    def text(self, most_bytes: int, what: str) -> str:
        length = self.number("<Q", what)
        if length > most_bytes:
            raise BadGguf(f"{what} has {length} bytes, {most_bytes} are allowed")
        try:
            return self.take(length, what).decode()
        except UnicodeDecodeError as error:
            raise BadGguf(f"{what} is not UTF-8 text") from error


def read_layout(stream: BinaryIO, size_bytes: int) -> Layout:
    """Return what the head of a file of ``size_bytes`` says. Raises: BadGguf.

    Takes memory for the head only, which the file holds byte for byte.
    """
    source = _Source(stream, size_bytes)
    if source.take(4, "the magic") != MAGIC:
        raise BadGguf("its magic is wrong")
    if (version := source.number("<I", "the version")) not in VERSIONS:
        raise BadGguf(f"it has version {version}, only 2 and 3 (little-endian) are read")
    tensor_count = _count(source, "tensors", MAX_TENSORS, 8 + 4 + 4 + 8)
    key_count = _count(source, "keys", MAX_KEYS, 8 + 4 + 1)
    values: dict[str, object] = {}
    lengths: dict[str, int] = {}
    for _ in range(key_count):
        key = source.text(MAX_NAME_BYTES, "the name of a key")
        if key in values or key in lengths:
            raise BadGguf(f"the key {key[:60]!a} is there twice")
        kind = source.number("<I", f"the type of {key[:60]!a}")
        if kind == _ARRAY:
            lengths[key] = _skip_array(source, key, 1)
        else:
            values[key] = _value(source, kind, key)
    tensors = _tensors(source, tensor_count)
    _check_places(source, tensors, _alignment(values))
    return Layout(values, lengths, tensors)


def check_model(layout: Layout, architecture: str) -> None:
    """Refuse a file whose stated sizes are not those of the tensors it holds. Raises: BadGguf.

    Libraries make a model of the stated sizes, and fill what the file lacks with random numbers.
    """
    blocks = _size(layout, f"{architecture}.block_count", MAX_BLOCKS)
    embedding = _size(layout, f"{architecture}.embedding_length", MAX_EMBEDDING)
    _size(layout, f"{architecture}.attention.head_count", MAX_EMBEDDING)
    for key, value in layout.values.items():
        if key.startswith(f"{architecture}.") and isinstance(value, int) and value > MAX_SIZE:
            raise BadGguf(f"{key[:60]} is {value}, at most {MAX_SIZE} is allowed")
    tokens = layout.array_lengths.get("tokenizer.ggml.tokens", 0)
    if not tokens:
        raise BadGguf("it has no tokenizer (tokenizer.ggml.tokens)")
    _check_shape(layout, "token_embd.weight", embedding, None)
    vocabulary = layout.tensors["token_embd.weight"].dimensions[1]
    stated = layout.values.get(f"{architecture}.vocab_size", vocabulary)
    if stated != vocabulary or tokens > vocabulary:
        raise BadGguf(f"it has {tokens} tokens, {stated} stated, and embeddings of {vocabulary}")
    feed_forward = layout.values.get(f"{architecture}.feed_forward_length")
    for block in range(blocks):
        _check_block(layout, block, embedding, feed_forward)


def _check_block(layout: Layout, block: int, embedding: int, feed_forward: object) -> None:
    prefix, held = f"blk.{block}.", layout.tensors
    for choices in ((_EVERY_BLOCK,), _ATTENTION, _FEED_FORWARD):
        if not any(all(prefix + name in held for name in choice) for choice in choices):
            wanted = " or ".join(", ".join(choice) for choice in choices)
            raise BadGguf(f"block {block} of its layers lacks tensors: {wanted}")
    if prefix + "ffn_down.weight" in held:
        _check_shape(layout, prefix + "ffn_down.weight", feed_forward, embedding)


def _check_shape(layout: Layout, name: str, first: object, second: object) -> None:
    tensor = layout.tensors.get(name)
    if tensor is None:
        raise BadGguf(f"it has no tensor {name}")
    wanted = (first, second)
    fits = len(tensor.dimensions) == 2 and all(
        one is None or one == other for one, other in zip(wanted, tensor.dimensions, strict=True)
    )
    if not fits:
        raise BadGguf(f"{name} is {tensor.dimensions}, its keys state {wanted}")


def _size(layout: Layout, key: str, most: int) -> int:
    value = layout.values.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
        raise BadGguf(f"{key} is {str(value)[:40]}, it must be 1..{most}")
    return value


def _count(source: _Source, what: str, most: int, least_bytes: int) -> int:
    count = source.number("<Q", f"the number of {what}")
    if count > most:
        raise BadGguf(f"it has {count} {what}, {most} are allowed")
    source.need(count * least_bytes, f"{count} {what}")
    return count


def _value(source: _Source, kind: int, key: str) -> object:
    if kind == _STRING:
        return source.text(MAX_TEXT_BYTES, f"the text of {key[:60]!a}")
    if kind not in _SCALARS:
        raise BadGguf(f"{key[:60]!a} has the type {kind}, which does not exist")
    form = _SCALARS[kind]
    value: object = struct.unpack(form, source.take(struct.calcsize(form), key[:60]))[0]
    return value


def _skip_array(source: _Source, key: str, depth: int) -> int:
    """Pass over an array and return its length."""
    what = f"the array {key[:60]!a}"
    kind = source.number("<I", what)
    count = source.number("<Q", what)
    if count > MAX_ARRAY_ITEMS:
        raise BadGguf(f"{what} has {count} items, {MAX_ARRAY_ITEMS} are allowed")
    if kind in _SCALARS:
        source.skip(count * struct.calcsize(_SCALARS[kind]), what)
    elif kind == _STRING:
        source.need(count * 8, what)
        for _ in range(count):
            source.skip(source.number("<Q", what), what)
    elif kind == _ARRAY and depth < MAX_ARRAY_DEPTH:
        source.need(count * 12, what)
        for _ in range(count):
            _skip_array(source, key, depth + 1)
    else:
        raise BadGguf(f"{what} has items of type {kind}, or is nested too deep")
    return count


def _tensors(source: _Source, count: int) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for _ in range(count):
        name = source.text(MAX_NAME_BYTES, "the name of a tensor")
        what = f"tensor {name[:60]!a}"
        if name in found:
            raise BadGguf(f"{what} is there twice")
        dimension_count = source.number("<I", what)
        if not 1 <= dimension_count <= MAX_DIMENSIONS:
            raise BadGguf(f"{what} has {dimension_count} dimensions")
        dimensions = tuple(source.number("<Q", what) for _ in range(dimension_count))
        block = _BLOCKS.get(kind := source.number("<I", what))
        if block is None:
            raise BadGguf(f"{what} has the type {kind}, which is not read")
        block_elements, block_bytes = block
        if 0 in dimensions or dimensions[0] % block_elements:
            raise BadGguf(f"{what} has the dimensions {dimensions}")
        elements = math.prod(dimensions)
        size_bytes = elements // block_elements * block_bytes
        if size_bytes > source.size_bytes:
            raise BadGguf(f"{what} needs {size_bytes} bytes, the file has {source.size_bytes}")
        found[name] = Tensor(name, dimensions, source.number("<Q", what), size_bytes)
    return found


def _alignment(values: dict[str, object]) -> int:
    value = values.get("general.alignment", 32)
    if not isinstance(value, int) or not 1 <= value <= MAX_ALIGNMENT or value & (value - 1):
        raise BadGguf(f"its alignment is {str(value)[:40]}")
    return value


def _check_places(source: _Source, tensors: dict[str, Tensor], alignment: int) -> None:
    """Refuse tensors that overlap or lie outside of the file."""
    room_bytes = source.size_bytes - -(-source.position // alignment) * alignment
    end = 0
    for tensor in sorted(tensors.values(), key=lambda each: each.offset):
        what = f"tensor {tensor.name[:60]!a}"
        if tensor.offset % alignment:
            raise BadGguf(f"{what} starts at {tensor.offset}, which is not aligned")
        if tensor.offset < end:
            raise BadGguf(f"{what} overlaps another one")
        end = tensor.offset + tensor.size_bytes
        if end > room_bytes:
            raise BadGguf(f"{what} ends at byte {end} of {room_bytes}: the file is cut short")
