"""What a model may consist of: refused here means refused unopened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from protos.domain.resources import ModelFile


class ModelConfig(NamedTuple):
    """What the fleet needs to know of a ``config.json``."""

    family: str
    context_tokens: int


def check_manifest(files: Sequence[ModelFile]) -> None:
    """Refuse files that may not be in the registry. Raises: InvalidRequest, TooLarge."""
    raise NotImplementedError


def manifest_sha256(files: Sequence[ModelFile]) -> bytes:
    """Return the 32-byte identity of a manifest, independent of the order of its files."""
    raise NotImplementedError


def check_model_config(config: Mapping[str, object]) -> ModelConfig:
    """Return family ("llama", "mistral", "qwen", "phi") and context. Raises: InvalidRequest."""
    raise NotImplementedError
