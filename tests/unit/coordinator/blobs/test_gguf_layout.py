"""Heads of GGUF files: no length is believed that the file is too short for."""

from __future__ import annotations

import io
import struct
import tracemalloc

import pytest

from coordinator.blobs import gguf_layout
from coordinator.blobs.gguf_layout import BadGguf, check_model, read_layout
from tests.support.gguf_files import (
    ARRAY,
    EMBEDDING,
    KEYS,
    STRING,
    TENSORS,
    UINT32,
    UINT64,
    VOCABULARY,
    Raw,
    array,
    gguf_file,
    tensor_info,
    text,
)

HUGE = 2**62


def layout_of(data: bytes):
    return read_layout(io.BytesIO(data), len(data))


def refusal_of(data: bytes) -> str:
    with pytest.raises(BadGguf) as refused:
        check_model(layout_of(data), "llama")
    return str(refused.value)


def test_a_whole_file_passes():
    layout = layout_of(gguf_file())
    check_model(layout, "llama")
    assert layout.values["general.architecture"] == "llama"
    assert layout.array_lengths == {"tokenizer.ggml.tokens": VOCABULARY}
    assert layout.tensors.keys() == TENSORS.keys()
    assert layout.elements == 552


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 are left"),
        (b"GGUF", "the version needs 4 bytes"),
        (b"GGML" + bytes(100), "magic"),
        (gguf_file(version=1), "version 1"),
        (gguf_file(version=4), "version 4"),
        (gguf_file(key_count=HUGE), "keys, 4096 are allowed"),
        (gguf_file(tensor_count=HUGE), "tensors, 65536 are allowed"),
        (gguf_file({}, {}, key_count=4_096), "4096 keys needs"),
        (gguf_file({}, {}, tensor_count=65_536), "65536 tensors needs"),
        (gguf_file({"a": Raw(STRING, struct.pack("<Q", HUGE))}), "4194304 are allowed"),
        (gguf_file({"a": Raw(STRING, struct.pack("<Q", 100_000))}), "needs 100000 bytes"),
        (gguf_file({"a": Raw(99, b"")}), "type 99"),
        (gguf_file({"a": array(UINT64, HUGE, b"")}), "8388608 are allowed"),
        (gguf_file({"a": array(UINT64, 8_000_000, b"")}), "needs 64000000 bytes"),
        (gguf_file({"a": array(STRING, 8_000_000, b"")}), "needs 64000000 bytes"),
        (gguf_file({"a": array(STRING, 1, struct.pack("<Q", HUGE))}), f"needs {HUGE} bytes"),
        (gguf_file({"a": array(ARRAY, 8_000_000, b"")}), "needs 96000000 bytes"),
        (gguf_file({"a": array(77, 1, b"")}), "items of type 77"),
        (gguf_file({"a" * 2_000: 1}), "2000 bytes, 1024 are allowed"),
        (gguf_file(KEYS | {"general.alignment": 0}), "alignment"),
        (gguf_file(KEYS | {"general.alignment": 48}), "alignment"),
        (gguf_file(KEYS | {"general.alignment": "x"}), "alignment"),
        (gguf_file()[:-1], "cut short"),
        (gguf_file()[:200], "bytes"),
    ],
)
def test_lengths_beyond_the_file_are_refused(data, says):
    assert says in refusal_of(data)


@pytest.mark.parametrize(
    ("infos", "says"),
    [
        (tensor_info("a", [HUGE], 0), "needs"),
        (tensor_info("a", [HUGE, HUGE, HUGE, HUGE], 0), "needs"),
        (tensor_info("a", [], 0, count=2**31), "dimensions"),
        (tensor_info("a", [1] * 5, 0), "5 dimensions"),
        (tensor_info("a", [], 0), "0 dimensions"),
        (tensor_info("a", [0, 4], 0), "the dimensions (0, 4)"),
        (tensor_info("a", [8], 0, kind=4), "type 4"),
        (tensor_info("a", [8], 0, kind=2), "the dimensions (8,)"),
        (tensor_info("a", [8], 2**40), "cut short"),
        (tensor_info("a", [8], 8), "not aligned"),
    ],
)
def test_tensors_beyond_the_file_are_refused(infos, says):
    assert says in refusal_of(gguf_file(KEYS, tensor_count=1, infos=infos))


def test_tensors_that_overlap_are_refused():
    infos = tensor_info("a", [16], 0) + tensor_info("b", [16], 32)
    assert "overlaps" in refusal_of(gguf_file(KEYS, tensor_count=2, infos=infos))


def test_names_that_are_there_twice_are_refused():
    infos = tensor_info("a", [8], 0) * 2
    assert "twice" in refusal_of(gguf_file(KEYS, tensor_count=2, infos=infos))
    pair = text("a") + struct.pack("<II", UINT32, 1)
    data = b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + pair * 2
    assert "twice" in refusal_of(data)


def test_arrays_are_not_nested_for_ever():
    nested = struct.pack("<IQ", ARRAY, 1) * 1_000
    assert "nested too deep" in refusal_of(gguf_file({"a": Raw(ARRAY, nested)}))


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"llama.block_count": 2}, "block 1 of its layers lacks tensors"),
        ({"llama.block_count": 0}, "block_count is 0"),
        ({"llama.block_count": 100_000}, "block_count is 100000"),
        ({"llama.block_count": "x"}, "block_count is x"),
        ({"llama.embedding_length": 131_073}, "embedding_length"),
        ({"llama.embedding_length": 4_096}, "token_embd.weight is"),
        ({"llama.feed_forward_length": 65_536}, "ffn_down.weight is"),
        ({"llama.vocab_size": 1_000_000}, "1000000 stated"),
        ({"llama.rope.dimension_count": 2**31}, "rope.dimension_count is"),
        ({"llama.expert_count": 2**31}, "expert_count is"),
        ({"tokenizer.ggml.tokens": array(STRING, 0, b"")}, "no tokenizer"),
        ({"tokenizer.ggml.tokens": array(STRING, 9, text("a") * 9)}, "9 tokens"),
    ],
)
def test_sizes_that_the_tensors_do_not_have_are_refused(keys, says):
    """A library makes a model of the stated sizes before it looks for the tensors."""
    assert says in refusal_of(gguf_file(KEYS | keys))


@pytest.mark.parametrize("name", sorted(TENSORS))
def test_a_tensor_that_every_model_has_is_missed(name):
    tensors = {one: shape for one, shape in TENSORS.items() if one != name}
    assert name.rpartition("blk.0.")[2] in refusal_of(gguf_file(KEYS, tensors))


def test_a_file_of_150_bytes_takes_no_memory():
    """The head of a llama without a model made the converter allocate one of the default sizes."""
    data = gguf_file({"general.architecture": "llama"}, {})
    assert len(data) < 150
    tracemalloc.start()
    try:
        assert "block_count" in refusal_of(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_an_embedding_of_three_dimensions_is_refused():
    tensors = TENSORS | {"token_embd.weight": (EMBEDDING, VOCABULARY, 1)}
    assert "token_embd.weight" in refusal_of(gguf_file(KEYS, tensors))


def test_a_file_that_shrinks_while_it_is_read_is_refused():
    data = gguf_file()
    with pytest.raises(BadGguf, match="the file ends"):
        read_layout(io.BytesIO(data[:100]), len(data))


def test_only_the_standard_library_is_needed():
    source = gguf_layout.__file__
    with open(source, encoding="utf-8") as file:
        imports = [line for line in file if line.startswith(("import ", "from "))]
    assert imports == [
        "from __future__ import annotations\n",
        "import math\n",
        "import struct\n",
        "from typing import BinaryIO, NamedTuple\n",
    ]
