"""Which files of a model's folder an engine reads, and what exports leave in them.

The command line leaves the rest out of an import; the coordinator refuses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: Every JSON file that vLLM or transformers reads of a text model, by its path in the folder.
READ_JSON: Final = frozenset(
    {
        "1_Pooling/config.json",
        "added_tokens.json",
        "chat_template.json",
        "config.json",
        "config_sentence_transformers.json",
        "generation_config.json",
        "hf_quant_config.json",
        "model.safetensors.index.json",
        "modules.json",
        "quant_config.json",
        "quantization_config.json",
        "quantize_config.json",
        "sentence_bert_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    }
)
#: What an adapter cannot be without.
ADAPTER_NEEDS: Final = ("adapter_config.json", "adapter_model.safetensors")
#: Every file that an adapter may have. An engine reads the first two; the rest is what trainers
#: save beside them, for people and for other programs.
ADAPTER_FILES: Final = frozenset(
    {
        *ADAPTER_NEEDS,
        "LICENSE",
        "NOTICE",
        "README.md",
        "added_tokens.json",
        "chat_template.jinja",
        "merges.txt",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
    }
)
#: Keys that exports write about where they were made, or for other programs. vLLM needs none of
#: them, and some of them (``_name_or_path``, ``tokenizer_file``) would make it open another path.
DROPPED_KEYS: Final = frozenset(
    {
        "_commit_hash",
        "_model_name_or_path",
        "_name_or_path",
        "dataset",
        "is_local",
        "local_files_only",
        "meta",
        "model_name_or_path",
        "name_or_path",
        "special_tokens_map_file",
        "tokenizer",
        "tokenizer_file",
        "transformers.js_config",
        "vocab_file",
    }
)
#: Files whose keys are dropped.
TIDIED_NAMES: Final = frozenset(
    {
        "config.json",
        "generation_config.json",
        "quantize_config.json",
        "special_tokens_map.json",
        "tokenizer_config.json",
    }
)
_QUANTIZATION: Final = "quantization_config"
_WEIGHTS_SUFFIX: Final = ".safetensors"


def is_read(path: str) -> bool:
    """Report whether an engine that serves the model reads the file at ``path``.

    Mistral's own format (``params.json`` and ``consolidated*.safetensors``) is not read: vLLM would
    prefer it to ``config.json``, and with it other keys and another tokenizer.
    """
    lower = path.lower()
    if lower.endswith(".json"):
        return path in READ_JSON
    if lower.endswith(_WEIGHTS_SUFFIX):
        return "/" not in path and not lower.startswith("consolidated")
    return True


def is_read_of_adapter(path: str) -> bool:
    """Report whether the file at ``path`` may be part of an adapter."""
    return path in ADAPTER_FILES


def without_dropped_keys(config: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
    """Return ``config`` without the keys of ``DROPPED_KEYS``, and the names of those it had.

    At the top and in ``quantization_config``, where exports write them; deeper ones are refused.
    """
    kept = {key: value for key, value in config.items() if key not in DROPPED_KEYS}
    dropped = sorted(key for key in config if key in DROPPED_KEYS)
    nested = kept.get(_QUANTIZATION)
    if isinstance(nested, Mapping):
        kept[_QUANTIZATION] = {
            key: value for key, value in nested.items() if key not in DROPPED_KEYS
        }
        dropped += sorted(f"{_QUANTIZATION}.{key}" for key in nested if key in DROPPED_KEYS)
    return kept, dropped
