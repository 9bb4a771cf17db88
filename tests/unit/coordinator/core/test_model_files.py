"""Every JSON file that an engine reads has a shape, and no other JSON file is taken."""

from __future__ import annotations

import pytest

from coordinator.core import model_files
from coordinator.core.model_files import INDEX_NAME, LARGE_JSON, check_file, check_names
from protos.domain.errors import InvalidRequest
from protos.domain.model_folder import READ_JSON


def test_every_file_that_is_read_is_checked():
    checked = set(model_files._SHAPES) | LARGE_JSON | {"config.json"}
    assert checked == READ_JSON


@pytest.mark.parametrize(
    "name",
    [
        "params.json",
        "tekken.json",
        "original/params.json",
        "adapter_config.json",
        "preprocessor_config.json",
        "sub/config.json",
        "consolidated.safetensors",
        "consolidated-00001-of-00002.safetensors",
        "original/model.safetensors",
    ],
)
def test_files_that_change_how_the_engine_reads_the_model_are_refused(name):
    with pytest.raises(InvalidRequest) as refused:
        check_names(["config.json", name])
    assert name in refused.value.message
    assert "edgeforge model import" in str(refused.value.hint)


def test_the_files_of_a_model_pass():
    check_names([*READ_JSON, "model-00001-of-00002.safetensors", "tokenizer.model", "README.md"])


def test_code_is_refused_in_every_file():
    for name in ("tokenizer_config.json", "generation_config.json", "quantize_config.json"):
        with pytest.raises(InvalidRequest, match="code"):
            check_file(name, {"auto_map": {"AutoTokenizer": "x.Y"}})


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ({}, "weight_map"),
        ([], "a list"),
        ({"weight_map": []}, "a list"),
        ({"weight_map": {"w": "/etc/passwd"}}, "not allowed"),
        ({"weight_map": {"w": "../x.safetensors"}}, "not allowed"),
        ({"weight_map": {"w": 1}}, "a text"),
        ({"weight_map": {}, "metadata": {"path": "/etc/passwd"}}, "a number"),
    ],
)
def test_an_index_names_files_of_the_folder_only(index, says):
    with pytest.raises(InvalidRequest, match=says):
        check_file(INDEX_NAME, index)


def test_an_index_passes():
    check_file(
        INDEX_NAME,
        {"metadata": {"total_size": 100}, "weight_map": {"w": "model-00001-of-00001.safetensors"}},
    )
