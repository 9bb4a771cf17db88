"""Which shape each JSON file of an imported model must have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from coordinator.core import embedding_config, model_config, quantization_config, tokenizer_config
from coordinator.core.json_shape import Fields, Named, Numbers, Shape, Text, check_shape
from protos.domain.errors import InvalidRequest
from protos.domain.manifest import check_path, refuse_remote_code
from protos.domain.model_folder import is_read

#: Largest of the files below, which are read on the coordinator. Their templates are most of it.
MAX_CONFIG_BYTES: Final = 4 * 1024**2
#: Read and checked in the child that tries them, since they are large.
LARGE_JSON: Final = frozenset({"added_tokens.json", "tokenizer.json", "vocab.json"})
INDEX_NAME: Final = "model.safetensors.index.json"
MAX_INDEX_BYTES: Final = 16 * 1024**2

_INDEX: Final = Fields(
    {
        "metadata": Named(Text(100), Numbers(), 100),
        "weight_map": Named(Text(500), Text(200), 1_000_000),
    }
)
_SHAPES: Final[Mapping[str, Shape]] = {
    "1_Pooling/config.json": embedding_config.POOLING,
    "chat_template.json": tokenizer_config.CHAT_TEMPLATE,
    "config_sentence_transformers.json": embedding_config.SENTENCE_TRANSFORMERS,
    "generation_config.json": model_config.GENERATION,
    "hf_quant_config.json": quantization_config.MODELOPT_FILE,
    INDEX_NAME: _INDEX,
    "modules.json": embedding_config.MODULES,
    "quant_config.json": quantization_config.QUANTIZATION,
    "quantization_config.json": quantization_config.QUANTIZATION,
    "quantize_config.json": quantization_config.QUANTIZATION,
    "sentence_bert_config.json": embedding_config.SENTENCE,
    "special_tokens_map.json": tokenizer_config.SPECIAL_TOKENS,
    "tokenizer_config.json": tokenizer_config.TOKENIZER,
}


def check_names(paths: Iterable[str]) -> None:
    """Refuse files that no engine is to read. Raises: InvalidRequest."""
    for path in paths:
        if not is_read(path):
            raise InvalidRequest(
                f"{path} is not a file that this model is served with",
                "edgeforge model import leaves it out; send the files as that command does",
            )


def check_file(path: str, content: object) -> None:
    """Refuse what a JSON file other than ``config.json`` may not say. Raises: InvalidRequest."""
    if isinstance(content, Mapping):
        refuse_remote_code(content)
    check_shape(_SHAPES[path], content, path)
    if path == INDEX_NAME:
        _check_index(content)


def _check_index(index: object) -> None:
    weight_map = index.get("weight_map") if isinstance(index, Mapping) else None
    if not isinstance(weight_map, Mapping):
        raise InvalidRequest(f"{INDEX_NAME} has no weight_map")
    for name in {str(value) for value in weight_map.values()}:
        check_path(name)
