"""Files of embedding models: their classes and folders are from short lists."""

from __future__ import annotations

import pytest

from coordinator.core.embedding_config import MODULES, POOLING, SENTENCE, SENTENCE_TRANSFORMERS
from coordinator.core.json_shape import check_shape
from protos.domain.errors import InvalidRequest

TRANSFORMER = {
    "idx": 0,
    "name": "0",
    "path": "",
    "type": "sentence_transformers.models.Transformer",
}
POOL = {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}


def test_published_embedding_models_pass():
    check_shape(MODULES, [TRANSFORMER, POOL], "modules.json")
    check_shape(
        POOLING,
        {"include_prompt": True, "pooling_mode_lasttoken": True, "word_embedding_dimension": 1024},
        "1_Pooling/config.json",
    )
    check_shape(SENTENCE, {"do_lower_case": False, "max_seq_length": 512}, "sentence.json")
    check_shape(
        SENTENCE_TRANSFORMERS,
        {
            "__version__": {"pytorch": "2.6.0+cu124", "sentence_transformers": "2.7.0"},
            "default_prompt_name": None,
            "prompts": {"query": "Instruct: find passages\nQuery:", "document": ""},
            "similarity_fn_name": "cosine",
        },
        "config_sentence_transformers.json",
    )


@pytest.mark.parametrize(
    "change",
    [
        {"type": "acme.models.Evil"},
        {"type": "sentence_transformers.models.Dense"},
        {"path": "/etc"},
        {"path": "../1_Pooling"},
        {"path": "acme/model"},
        {"kwargs": {"file": "x"}},
        {"module": "x"},
    ],
)
def test_another_class_or_folder_is_refused(change):
    with pytest.raises(InvalidRequest):
        check_shape(MODULES, [TRANSFORMER | change], "modules.json")


def test_more_modules_than_any_model_has_are_refused():
    with pytest.raises(InvalidRequest, match="9 items"):
        check_shape(MODULES, [TRANSFORMER] * 9, "modules.json")
