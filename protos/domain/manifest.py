"""Which files a model or an adapter may consist of; checked before any file is opened."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from protos.domain.errors import InvalidRequest
from protos.domain.model_folder import ADAPTER_FILES, ADAPTER_NEEDS, is_read_of_adapter

if TYPE_CHECKING:
    from protos.domain.resources import ModelFile

MAX_FILES = 1_000
MAX_PATH_CHARS = 200
MAX_PATH_PARTS = 4
#: Limit of all files but weights, since they are read into memory.
MAX_TEXT_FILE_BYTES = 64 * 1024**2
MAX_FILE_BYTES = 64 * 1024**3
MAX_TOTAL_BYTES = 2 * 1024**4
#: All files of an adapter. Rank 64 on every layer of a 70B model in 16 bits takes 1.7 GB.
MAX_ADAPTER_BYTES = 4 * 1024**3
MAX_CONTEXT_TOKENS = 16 * 1024**2

_WEIGHTS_SUFFIX = ".safetensors"
#: Data only: tensors, tokenizers (``.model`` is SentencePiece's), templates, documentation.
ALLOWED_SUFFIXES = (_WEIGHTS_SUFFIX, ".json", ".txt", ".model", ".jinja", ".md")
ALLOWED_NAMES = ("LICENSE", "NOTICE")
#: Formats that can run code when they are read.
_CODE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")

#: Architectures of config.json that the engine can run -> family.
FAMILY_OF_ARCHITECTURE = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "MixtralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen",
    "Qwen2MoeForCausalLM": "qwen",
    "Qwen3ForCausalLM": "qwen",
    "Qwen3MoeForCausalLM": "qwen",
    "PhiForCausalLM": "phi",
    "Phi3ForCausalLM": "phi",
    "PhiMoEForCausalLM": "phi",
}
#: Keys of a configuration that name code to fetch and run.
_CODE_KEYS = frozenset({"auto_map", "custom_pipelines", "custom_generate", "trust_remote_code"})


class ModelConfig(NamedTuple):
    """The parts of a ``config.json`` that the fleet uses."""

    family: str
    context_tokens: int


def check_manifest(files: Sequence[ModelFile]) -> None:
    """Refuse files that may not be a model of the registry. Raises: InvalidRequest."""
    paths = _check_files(files)
    if "config.json" not in paths:
        raise InvalidRequest("no config.json", "import the folder that holds config.json")
    if not any(path.endswith(_WEIGHTS_SUFFIX) for path in paths):
        raise InvalidRequest("no .safetensors file", "convert the weights to safetensors first")


def check_adapter_manifest(files: Sequence[ModelFile]) -> None:
    """Refuse files that may not be an adapter of the registry. Raises: InvalidRequest."""
    paths = _check_files(files)
    for path in paths:
        if not is_read_of_adapter(path):
            raise InvalidRequest(
                f"{path} is not a file that an adapter is served with",
                "allowed: " + " ".join(sorted(ADAPTER_FILES)),
            )
    for wanted in ADAPTER_NEEDS:
        if wanted not in paths:
            raise InvalidRequest(
                f"no {wanted}", "import the folder that peft's save_pretrained wrote"
            )
    if (total_bytes := sum(file.size_bytes for file in files)) > MAX_ADAPTER_BYTES:
        raise InvalidRequest(f"{total_bytes} bytes are more than {MAX_ADAPTER_BYTES}")


def _check_files(files: Sequence[ModelFile]) -> set[str]:
    """Return the paths of files that may be in the registry. Raises: InvalidRequest."""
    if len(files) > MAX_FILES:
        raise InvalidRequest(f"{len(files)} files are more than {MAX_FILES}")
    paths: set[str] = set()
    for file in files:
        check_path(file.path)
        if file.path in paths:
            raise InvalidRequest(f"{file.path!r} is listed twice")
        paths.add(file.path)
        _check_content(file)
    for path in paths:
        if not paths.isdisjoint(_parents(path)):
            raise InvalidRequest(f"a folder of {path!r} is also listed as a file")
    if (total_bytes := sum(file.size_bytes for file in files)) > MAX_TOTAL_BYTES:
        raise InvalidRequest(f"{total_bytes} bytes are more than {MAX_TOTAL_BYTES}")
    return paths


def check_path(path: str) -> str:
    """Return ``path`` if it may name a file of a model. Raises: InvalidRequest."""
    shown = ascii(path[:MAX_PATH_CHARS])
    if len(path) > MAX_PATH_CHARS:
        raise InvalidRequest(f"path {shown} is longer than {MAX_PATH_CHARS} characters")
    parts = path.split("/")
    if len(parts) > MAX_PATH_PARTS:
        raise InvalidRequest(f"path {shown} is deeper than {MAX_PATH_PARTS}")
    if not all(_PART.fullmatch(part) for part in parts):
        raise InvalidRequest(
            f"path {shown} is not allowed",
            "relative, / between parts, no . or .. part, letters digits _ . + - only",
        )
    lower = parts[-1].lower()
    if lower.endswith(_CODE_SUFFIXES):
        raise InvalidRequest(
            f"{shown} can hold code that runs when it is read",
            "convert the weights to safetensors and leave this file out",
        )
    if lower.endswith(_WEIGHTS_SUFFIX) and not parts[-1].endswith(_WEIGHTS_SUFFIX):
        raise InvalidRequest(f"{shown} is no name of weights", f"write {_WEIGHTS_SUFFIX} small")
    if not lower.endswith(ALLOWED_SUFFIXES) and parts[-1] not in ALLOWED_NAMES:
        raise InvalidRequest(
            f"{shown} is not a kind of file a model needs",
            "allowed: " + " ".join(ALLOWED_SUFFIXES + ALLOWED_NAMES),
        )
    return path


def manifest_sha256(files: Sequence[ModelFile]) -> bytes:
    """Return the 32-byte identity of a checked manifest, independent of the order of its files."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda each: each.path):
        digest.update(f"{file.path}\0{file.size_bytes}\0".encode())
        digest.update(file.sha256)
    return digest.digest()


def check_model_config(config: Mapping[str, object]) -> ModelConfig:
    """Return family ("llama", "mistral", "qwen", "phi") and context. Raises: InvalidRequest."""
    refuse_remote_code(config)
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or len(architectures) != 1:
        raise InvalidRequest("config.json must name exactly one architecture")
    family = FAMILY_OF_ARCHITECTURE.get(str(architectures[0]))
    if family is None:
        raise InvalidRequest(
            f"architecture {str(architectures[0])[:80]!a} is not served",
            "served: " + " ".join(FAMILY_OF_ARCHITECTURE),
        )
    context_tokens = config.get("max_position_embeddings")
    if isinstance(context_tokens, bool) or not isinstance(context_tokens, int):
        raise InvalidRequest("config.json has no integer max_position_embeddings")
    if not 0 < context_tokens <= MAX_CONTEXT_TOKENS:
        raise InvalidRequest(
            f"max_position_embeddings {context_tokens} is not in 1..{MAX_CONTEXT_TOKENS}"
        )
    return ModelConfig(family, context_tokens)


def refuse_remote_code(config: Mapping[str, object]) -> None:
    """Refuse a configuration that names code, at any depth. Raises: InvalidRequest.

    For config.json, tokenizer_config.json and the like, not for vocabularies.
    """
    for key, value in _items(config):
        if key in _CODE_KEYS and value not in (None, False):
            raise InvalidRequest(
                f"the model asks for its own code to be run ({key})",
                f"remove {key} and the code it names; only built-in architectures are served",
            )


def _items(config: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield every key and value of ``config`` at any depth, without recursion."""
    pending: list[object] = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            yield from value.items()
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _check_content(file: ModelFile) -> None:
    if len(file.sha256) != 32:
        raise InvalidRequest(f"{file.path!r} has a SHA-256 of {len(file.sha256)} bytes")
    limit_bytes = MAX_FILE_BYTES if file.path.endswith(_WEIGHTS_SUFFIX) else MAX_TEXT_FILE_BYTES
    if not 0 < file.size_bytes <= limit_bytes:
        raise InvalidRequest(
            f"{file.path!r} has {file.size_bytes} bytes, allowed are 1..{limit_bytes}"
        )
