"""Tokenizers of published models pass; other classes, paths and unknown stages do not."""

from __future__ import annotations

import pytest

from coordinator.core import tokenizer_config
from coordinator.core.json_shape import check_shape
from coordinator.core.tokenizer_config import TOKENIZER, check_tokenizer, templates_of
from protos.domain.errors import InvalidRequest
from tests.support.real_configs import TOKENIZER_CONFIGS

PATTERN = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s+"
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
LLAMA_3 = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [{"id": 0, "content": "<s>", "special": True}],
    "normalizer": None,
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated"},
            BYTE_LEVEL,
        ],
    },
    "post_processor": {"type": "Sequence", "processors": [BYTE_LEVEL]},
    "decoder": BYTE_LEVEL,
    "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
}


@pytest.mark.parametrize("name", TOKENIZER_CONFIGS)
def test_published_tokenizers_pass(name):
    check_shape(TOKENIZER, TOKENIZER_CONFIGS[name], "tokenizer_config.json")


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer_class": "acme.Tokenizer"},
        {"tokenizer_class": "MistralCommonBackend"},
        {"processor_class": "LlavaProcessor"},
        {"tokenizer_file": "/etc/passwd"},
        {"vocab_file": "x"},
        {"name_or_path": "acme/base"},
        {"sp_model_kwargs": {"model_file": "/etc/passwd"}},
        {"model_input_names": ["/etc/passwd"]},
        {"added_tokens_decoder": {"/etc/passwd": {"content": "x"}}},
        {"added_tokens_decoder": {"1": {"content": "x", "path": "y"}}},
        {"chat_template": [{"name": "../x", "template": "y"}]},
        {"chat_template": {"path": "y"}},
        {"chat_template": "x" * (tokenizer_config.MAX_TEMPLATE_CHARS + 1)},
        {"bos_token": "x" * 513},
        {"response_schema": {"x-regex": "(a+)+"}},
        {"gguf_file": "x.gguf"},
    ],
)
def test_a_tokenizer_that_names_something_is_refused(change):
    with pytest.raises(InvalidRequest, match=r"tokenizer_config\.json: "):
        check_shape(TOKENIZER, TOKENIZER_CONFIGS["Llama 2"] | change, "tokenizer_config.json")


def test_patterns_are_found_at_any_stage():
    assert check_tokenizer(LLAMA_3) == [PATTERN]
    replace = {"type": "Replace", "pattern": {"Regex": "x+"}, "content": ""}
    sequence = {"type": "Sequence", "normalizers": [replace, {"type": "NFC"}]}
    assert check_tokenizer(LLAMA_3 | {"normalizer": sequence}) == ["x+", PATTERN]
    assert check_tokenizer({"model": {"vocab": {}, "merges": []}}) == []


def nested(depth):
    stage: dict = BYTE_LEVEL
    for _ in range(depth):
        stage = {"type": "Sequence", "pretokenizers": [stage]}
    return stage


@pytest.mark.parametrize(
    "change",
    [
        {"plugin": "x"},
        {"model": {"type": "Acme"}},
        {"pre_tokenizer": {"type": "Acme"}},
        {"pre_tokenizer": {"type": ["Split"]}},
        {"pre_tokenizer": "Split"},
        {"pre_tokenizer": nested(20)},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [BYTE_LEVEL] * 100}},
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "x" * 5_000}}},
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": ["x"]}}},
        {"added_tokens": [{"content": "x", "file": "/etc/passwd"}]},
        {"decoder": {"type": "Sequence", "decoders": ["x"]}},
    ],
)
def test_stages_that_do_not_exist_are_refused(change):
    with pytest.raises(InvalidRequest, match=r"tokenizer\.json"):
        check_tokenizer(LLAMA_3 | change)


def test_templates_are_found_in_both_forms():
    assert templates_of("a") == ["a"]
    assert templates_of([{"name": "x", "template": "a"}, {"name": "y", "template": "b"}]) == [
        "a",
        "b",
    ]
    assert templates_of(None) == []
