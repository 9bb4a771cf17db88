"""Which models take each other's weights inside a warm engine: those with the same key.

The key is over everything that an engine reads of a model but its weights: configurations,
tokenizer, chat template. Two fine-tunes of one base have the same one. What differs between
exports without a meaning to the engine is left out; the type of the weights (``torch_dtype``) is
not, since an engine is started for one type.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from protos.domain.model_folder import DROPPED_KEYS

if TYPE_CHECKING:
    from protos.domain.resources import ModelFile

_WEIGHTS_SUFFIX: Final = ".safetensors"
_INDEX_SUFFIX: Final = ".safetensors.index.json"
_DOCUMENT_SUFFIX: Final = ".md"
_DOCUMENTS: Final = frozenset({"LICENSE", "NOTICE", "LICENSE.txt", "NOTICE.txt"})
#: Keys that say which program wrote a file, or how a trainer ran.
_IGNORED_KEYS: Final = DROPPED_KEYS | {
    "_attn_implementation_autoset",
    "_from_model_config",
    "tf_legacy_loss",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
}


def swap_key(files: Iterable[ModelFile], contents: Mapping[str, object]) -> bytes:
    """Return the key of a model's ``files``; ``contents`` are its small JSON files, parsed."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda one: one.path):
        if not _is_read(file.path):
            continue
        content = contents.get(file.path)
        if isinstance(content, Mapping):
            value = hashlib.sha256(canonical_json(content)).digest()
        else:
            value = file.sha256
        digest.update(f"{file.path}\0".encode())
        digest.update(value)
    return digest.digest()


def canonical_json(content: Mapping[str, object]) -> bytes:
    """Return one text for contents that mean the same to an engine."""
    kept: dict[str, object] = {}
    for key, value in content.items():
        if key in _IGNORED_KEYS or value is None:
            continue
        # transformers 5 writes dtype where 4 wrote torch_dtype.
        kept["dtype" if key == "torch_dtype" else key] = value
    return json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()


def _is_read(path: str) -> bool:
    """Return whether an engine reads the file besides the weights."""
    if path.endswith((_WEIGHTS_SUFFIX, _INDEX_SUFFIX, _DOCUMENT_SUFFIX)):
        return False
    return path not in _DOCUMENTS
