"""Small GGUF files, whole or crafted, made byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

UINT32, FLOAT32, STRING, ARRAY, UINT64 = 4, 6, 8, 9, 10
EMBEDDING, FEED_FORWARD, VOCABULARY = 8, 16, 4
ALIGNMENT = 32


class Raw(NamedTuple):
    """A value whose bytes are given."""

    kind: int
    data: bytes


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def array(kind: int, count: int, items: bytes) -> Raw:
    return Raw(ARRAY, struct.pack("<IQ", kind, count) + items)


def value_bytes(value: object) -> bytes:
    if isinstance(value, Raw):
        return struct.pack("<I", value.kind) + value.data
    if isinstance(value, str):
        return struct.pack("<I", STRING) + text(value)
    if isinstance(value, float):
        return struct.pack("<If", FLOAT32, value)
    return struct.pack("<II", UINT32, value)


def tensor_info(
    name: str, dimensions: Sequence[int], offset: int, kind: int = 0, count: int | None = None
) -> bytes:
    """Return the description of a tensor of float32; ``count`` overrides its dimensions' number."""
    said = len(dimensions) if count is None else count
    return (
        text(name)
        + struct.pack("<I", said)
        + b"".join(struct.pack("<Q", one) for one in dimensions)
        + struct.pack("<IQ", kind, offset)
    )


#: What a model of one block holds: name -> dimensions.
TENSORS = {
    "token_embd.weight": (EMBEDDING, VOCABULARY),
    "blk.0.attn_norm.weight": (EMBEDDING,),
    "blk.0.attn_q.weight": (EMBEDDING, EMBEDDING),
    "blk.0.attn_k.weight": (EMBEDDING, EMBEDDING),
    "blk.0.attn_v.weight": (EMBEDDING, EMBEDDING),
    "blk.0.attn_output.weight": (EMBEDDING, EMBEDDING),
    "blk.0.ffn_up.weight": (EMBEDDING, FEED_FORWARD),
    "blk.0.ffn_down.weight": (FEED_FORWARD, EMBEDDING),
}
KEYS: dict[str, object] = {
    "general.architecture": "llama",
    "llama.block_count": 1,
    "llama.embedding_length": EMBEDDING,
    "llama.feed_forward_length": FEED_FORWARD,
    "llama.attention.head_count": 2,
    "llama.context_length": 128,
    "llama.rope.freq_base": 10000.0,
    "tokenizer.ggml.tokens": array(STRING, VOCABULARY, text("a") * VOCABULARY),
}


def gguf_file(
    keys: Mapping[str, object] = KEYS,
    tensors: Mapping[str, Sequence[int]] = TENSORS,
    *,
    version: int = 3,
    key_count: int | None = None,
    tensor_count: int | None = None,
    infos: bytes | None = None,
) -> bytes:
    """Return a file; what is given explicitly replaces what would be true."""
    described, data_bytes = b"", 0
    for name, dimensions in tensors.items():
        described += tensor_info(name, dimensions, data_bytes)
        size = 4
        for one in dimensions:
            size *= one
        data_bytes += -(-size // ALIGNMENT) * ALIGNMENT
    head = b"GGUF" + struct.pack(
        "<IQQ",
        version,
        len(tensors) if tensor_count is None else tensor_count,
        len(keys) if key_count is None else key_count,
    )
    head += b"".join(text(key) + value_bytes(value) for key, value in keys.items())
    head += described if infos is None else infos
    return head + bytes(-len(head) % ALIGNMENT) + bytes(data_bytes)
