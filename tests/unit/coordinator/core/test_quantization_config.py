"""Quantised models' settings pass, and nothing that would run for long or name a class."""

from __future__ import annotations

import pytest

from coordinator.core.json_shape import check_shape
from coordinator.core.quantization_config import MODELOPT_FILE, QUANTIZATION
from protos.domain.errors import InvalidRequest
from tests.support.real_configs import AWQ, COMPRESSED, FP8, GPTQ


@pytest.mark.parametrize("config", [AWQ, COMPRESSED, FP8, GPTQ])
def test_published_settings_pass(config):
    check_shape(QUANTIZATION, config, "quantize_config.json")


def test_the_file_of_modelopt_passes():
    check_shape(
        MODELOPT_FILE,
        {
            "producer": {"name": "modelopt", "version": "0.29.0"},
            "quantization": {"exclude_modules": ["lm_head", "model.layers.*"], "quant_algo": "FP8"},
        },
        "hf_quant_config.json",
    )


@pytest.mark.parametrize(
    "change",
    [
        {"quant_method": "torchao"},
        {"quant_method": "acme/method"},
        {"dataset": "acme/data"},
        {"model_name_or_path": "acme/base"},
        {"meta": {"uri": "https://example.org"}},
        {"ignore": ["re:(a+)+$"]},
        {"ignore": ["re:(.*a)*b"]},
        {"ignore": ["re:.*.*.*.*.*x"]},
        {"ignore": ["../lm_head"]},
        {"ignore": [{"name": "x"}]},
        {"config_groups": {"group_0": {"targets": ["/etc/passwd"]}}},
        {"config_groups": {"group_0": {"weights": {"observer": "acme.Observer"}}}},
        {"config_groups": {"group_0": {"weights": {"observer_kwargs": {"path": "x"}}}}},
        {"config_groups": {"../x": {}}},
        {"transform_config": {"config_groups": {}}},
        {"dynamic": {"-:.*": {}}},
    ],
)
def test_settings_that_name_or_repeat_something_are_refused(change):
    with pytest.raises(InvalidRequest):
        check_shape(QUANTIZATION, COMPRESSED | change, "config.json")
