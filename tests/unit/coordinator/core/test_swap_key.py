"""The swap key: the same for fine-tunes, another for what an engine would read otherwise."""

from __future__ import annotations

import pytest

from coordinator.core.swap_key import swap_key
from protos.domain.resources import ModelFile

CONFIG = {"architectures": ["LlamaForCausalLM"], "hidden_size": 16, "torch_dtype": "bfloat16"}
TOKENIZER = {"model_max_length": 2_048}


def key(config=CONFIG, tokenizer=TOKENIZER, **digests: bytes) -> bytes:
    paths = {
        "config.json": b"c",
        "tokenizer_config.json": b"t",
        "tokenizer.json": b"k",
        "chat_template.jinja": b"j",
        "model.safetensors": b"w",
    }
    paths |= {name.replace("__", "."): digest for name, digest in digests.items()}
    files = [ModelFile(path, digest * 32, 10) for path, digest in paths.items() if digest]
    return swap_key(files, {"config.json": config, "tokenizer_config.json": tokenizer})


def test_other_weights_in_other_files_have_the_same_key():
    assert key(model__safetensors=b"x") == key()
    assert key(model__safetensors=b"", **{"model-00001-of-00002.safetensors": b"1"}) == key()
    assert key(**{"model.safetensors.index.json": b"i"}) == key()


@pytest.mark.parametrize(
    "same",
    [
        {"transformers_version": "5.0"},
        {"use_cache": False},
        {"unsloth_version": "1"},
        {"rope_scaling": None},
    ],
)
def test_what_tells_an_engine_nothing_is_left_out(same):
    assert key(CONFIG | same) == key()
    assert key(CONFIG | same, config__json=b"x") == key(), "other bytes, the same meaning"


def test_dtype_has_two_names():
    renamed = {name: value for name, value in CONFIG.items() if name != "torch_dtype"}
    assert key(renamed | {"dtype": "bfloat16"}) == key()


@pytest.mark.parametrize(
    "other",
    [
        key(CONFIG | {"hidden_size": 32}),
        key(CONFIG | {"torch_dtype": "float16"}),
        key(tokenizer={"model_max_length": 4_096}),
        key(tokenizer__json=b"x"),
        key(chat_template__jinja=b"x"),
        key(chat_template__jinja=b""),
        key(generation_config__json=b"g"),
    ],
)
def test_what_an_engine_reads_makes_another_key(other):
    assert other != key()


def test_documents_are_left_out():
    assert key(README__md=b"r", LICENSE=b"l") == key()
