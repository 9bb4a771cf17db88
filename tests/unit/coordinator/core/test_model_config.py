"""Configurations of the four families pass; what names a path, an address or code does not."""

from __future__ import annotations

import copy

import pytest

from coordinator.core.json_shape import check_shape
from coordinator.core.model_config import (
    GENERATION,
    MODEL_TYPE_OF_ARCHITECTURE,
    check_config,
)
from protos.domain.errors import InvalidRequest
from protos.domain.manifest import FAMILY_OF_ARCHITECTURE
from tests.support.real_configs import CONFIGS

LLAMA = CONFIGS["Llama 3.2 1B"]


def refusal_of(config) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        check_config(config)
    assert refused.value.hint
    return refused.value


@pytest.mark.parametrize("name", CONFIGS)
def test_published_models_pass(name):
    config = CONFIGS[name]
    checked = check_config(config)
    assert checked.family == FAMILY_OF_ARCHITECTURE[config["architectures"][0]]
    assert checked.context_tokens == 4_096


def test_every_served_architecture_has_a_model_type():
    assert MODEL_TYPE_OF_ARCHITECTURE.keys() == FAMILY_OF_ARCHITECTURE.keys()


def test_a_speculator_that_names_another_model_is_refused():
    """``speculators_config.verifier.name_or_path`` made vLLM load it as model and tokenizer."""
    config = LLAMA | {
        "speculators_config": {"verifier": {"name_or_path": "/etc", "architectures": []}}
    }
    error = refusal_of(config)
    assert "config.json: speculators_config" in error.message


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("_name_or_path", "meta-llama/Llama-2-7b-hf", "a path or a repository"),
        ("name_or_path", "/models/other", "a path or a repository"),
        ("draft_model", "acme/draft", "a path or a repository"),
        ("image_url", "https://example.org/x", "an address"),
        ("custom_thing", "s3://bucket/x", "an address"),
        ("tokenizer_path", "x", "a path or a repository"),
        ("processor_class", "EvilProcessor", "a class or code"),
        ("text_config", {"model_type": "llama"}, "is not a key"),
        ("vision_config", {}, "is not a key"),
        ("dual_chunk_attention_config", {"chunk_size": 1}, "is not a key"),
    ],
)
def test_a_key_without_a_place_is_refused_by_what_it_names(key, value, says):
    error = refusal_of(LLAMA | {key: value})
    assert f"config.json: {key}" in error.message
    assert says in error.message


def test_what_the_command_line_leaves_out_is_said_with_the_way():
    assert "edgeforge model import" in str(refusal_of(LLAMA | {"_name_or_path": "x"}).hint)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        # transformers would fetch kernels of this repository and run them.
        ("_attn_implementation", "kernels-community/flash-attn"),
        ("attn_implementation", "https://example.org/k"),
        ("hidden_act", "os.system"),
        ("torch_dtype", "../x"),
        ("transformers_version", "4.0/../.."),
        ("tokenizer_class", "EvilTokenizer"),
        ("rope_scaling", {"rope_type": "llama3", "file": "/etc/passwd"}),
        ("rope_scaling", {"rope_type": "/etc/passwd"}),
        ("rope_scaling", "/etc/passwd"),
        ("layer_types", ["full_attention", "/etc/passwd"]),
        ("eos_token_id", "/etc/passwd"),
        ("eos_token_id", [1, "/etc/passwd"]),
        ("num_hidden_layers", 1_000_000),
        ("vocab_size", 10**12),
        ("rope_theta", [0.5] * 5_000),
        ("task_specific_params", {"a": {"b": "/etc/passwd"}}),
    ],
)
def test_values_that_are_not_of_their_keys_kind_are_refused(key, value):
    assert f"config.json: {key}" in refusal_of(LLAMA | {key: value}).message


@pytest.mark.parametrize("model_type", [None, "mistral", "llava", "../llama", 1])
def test_a_model_type_of_another_architecture_is_refused(model_type):
    assert "model_type" in refusal_of(LLAMA | {"model_type": model_type}).message


def test_experts_are_no_part_of_a_plain_llama():
    assert "num_local_experts" in refusal_of(LLAMA | {"num_local_experts": 8}).message


def test_checking_changes_nothing():
    before = copy.deepcopy(CONFIGS["compressed tensors"])
    check_config(CONFIGS["compressed tensors"])
    assert CONFIGS["compressed tensors"] == before


@pytest.mark.parametrize(
    "config",
    [
        {"_from_model_config": True, "bos_token_id": 1, "transformers_version": "4.44.0"},
        {"do_sample": True, "eos_token_id": [1, 2], "temperature": 0.6, "top_p": 0.9},
        {"max_new_tokens": 2048, "repetition_penalty": 1.05, "top_k": 20},
        {"stop_strings": ["</s>", "/stop"], "watermarking_config": None},
    ],
)
def test_generation_configurations_pass(config):
    check_shape(GENERATION, config, "generation_config.json")


@pytest.mark.parametrize(
    "config",
    [
        {"assistant_model": "acme/draft"},
        {"custom_generate": "acme/repo"},
        {"temperature": "/etc/passwd"},
        {"cache_implementation": "acme/cache"},
        {"watermarking_config": {"seeding_scheme": "x"}},
    ],
)
def test_generation_configurations_that_name_something_are_refused(config):
    with pytest.raises(InvalidRequest, match=r"generation_config\.json: "):
        check_shape(GENERATION, config, "generation_config.json")
