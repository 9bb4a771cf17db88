"""What is left out of an import."""

from __future__ import annotations

import pytest

from protos.domain.model_folder import READ_JSON, is_read, without_dropped_keys


def test_files_of_a_model_are_read():
    for path in (*READ_JSON, "model.safetensors", "tokenizer.model", "merges.txt", "LICENSE"):
        assert is_read(path)


@pytest.mark.parametrize(
    "path",
    [
        "params.json",
        "tekken.json",
        "trainer_state.json",
        "sub/config.json",
        "Config.JSON",
        "consolidated.00.safetensors",
        "Consolidated.safetensors",
        "original/x.safetensors",
    ],
)
def test_files_that_no_engine_is_to_read_are_left_out(path):
    assert not is_read(path)


def test_keys_of_the_exporting_machine_are_left_out_at_the_top_and_in_the_quantisation():
    config = {
        "_name_or_path": "/home/me/model",
        "hidden_size": 1,
        "quantization_config": {"bits": 4, "meta": {"uri": "https://x"}, "dataset": "c4"},
        "deep": {"_name_or_path": "kept, and refused by the coordinator"},
    }
    kept, dropped = without_dropped_keys(config)
    assert kept == {
        "hidden_size": 1,
        "quantization_config": {"bits": 4},
        "deep": {"_name_or_path": "kept, and refused by the coordinator"},
    }
    assert dropped == [
        "_name_or_path",
        "quantization_config.dataset",
        "quantization_config.meta",
    ]
    assert "_name_or_path" in config


def test_a_configuration_without_them_is_as_it_was():
    config = {"a": 1, "quantization_config": {"bits": 4}}
    assert without_dropped_keys(config) == (config, [])
