"""Checks of a model before it is registered: its small files and the heads of its weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import orjson

from protos.domain.errors import InvalidRequest
from protos.domain.manifest import check_manifest, check_model_config, refuse_remote_code

if TYPE_CHECKING:
    from coordinator.blobs.store import BlobStore
    from protos.domain.resources import ModelFile

_CONFIG = "config.json"
_INDEX = "model.safetensors.index.json"
_WEIGHTS_SUFFIX = ".safetensors"
#: Suffixes of files that configure code, and the most of them in one model.
_CONFIG_SUFFIX = "config.json"
_MAX_CONFIGS = 32
_MAX_JSON_BYTES = 16 * 1024**2
#: A safetensors file starts with the length of its JSON header, little endian.
_HEADER_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100 * 1024**2


class ImportedModel(NamedTuple):
    """What the registry stores about a model's files."""

    family: str
    context_tokens: int
    weights_bytes: int


async def inspect_model(files: Sequence[ModelFile], blobs: BlobStore) -> ImportedModel:
    """Return what the registry stores, if all files may be served. Raises: InvalidRequest."""
    check_manifest(files)
    _check_blobs(files, blobs)
    by_path = {file.path: file for file in files}
    configs = [file for file in files if file.path.endswith(_CONFIG_SUFFIX)]
    if len(configs) > _MAX_CONFIGS:
        raise InvalidRequest(f"{len(configs)} configuration files are more than {_MAX_CONFIGS}")
    for file in configs:
        refuse_remote_code(await _json_of(file, blobs))
    config = check_model_config(await _json_of(by_path[_CONFIG], blobs))
    weights = [file for file in files if file.path.endswith(_WEIGHTS_SUFFIX)]
    for file in weights:
        await _check_weights(file, blobs)
    if _INDEX in by_path:
        await _check_index(by_path[_INDEX], by_path.keys(), blobs)
    return ImportedModel(
        config.family, config.context_tokens, sum(file.size_bytes for file in weights)
    )


def _check_blobs(files: Sequence[ModelFile], blobs: BlobStore) -> None:
    sizes_bytes = {file.path: blobs.size_bytes(file.sha256) for file in files}
    if missing := [path for path, size_bytes in sizes_bytes.items() if size_bytes is None]:
        raise InvalidRequest(
            f"{len(missing)} files have not been uploaded: {', '.join(missing[:3])}",
            "run the import again: it sends only what is missing",
        )
    for file in files:
        if sizes_bytes[file.path] != file.size_bytes:
            raise InvalidRequest(
                f"{file.path} has {sizes_bytes[file.path]} bytes, not {file.size_bytes}"
            )


async def _json_of(file: ModelFile, blobs: BlobStore) -> dict[str, object]:
    if file.size_bytes > _MAX_JSON_BYTES:
        raise InvalidRequest(f"{file.path} has {file.size_bytes} of {_MAX_JSON_BYTES} bytes")
    try:
        content = orjson.loads(await blobs.read_start(file.sha256, _MAX_JSON_BYTES))
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"{file.path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidRequest(f"{file.path} is not a JSON object")
    return content


async def _check_weights(file: ModelFile, blobs: BlobStore) -> None:
    """Check the head only: enough to detect a file that is not safetensors."""
    head = await blobs.read_start(file.sha256, _HEADER_LENGTH_BYTES + 1)
    header_bytes = int.from_bytes(head[:_HEADER_LENGTH_BYTES], "little")
    room_bytes = min(_MAX_HEADER_BYTES, file.size_bytes - _HEADER_LENGTH_BYTES)
    if head[_HEADER_LENGTH_BYTES:] != b"{" or not 2 <= header_bytes <= room_bytes:
        raise InvalidRequest(
            f"{file.path} is not a safetensors file",
            "convert the weights with the safetensors library; renaming is not enough",
        )


async def _check_index(index: ModelFile, paths: Iterable[str], blobs: BlobStore) -> None:
    weight_map = (await _json_of(index, blobs)).get("weight_map")
    if not isinstance(weight_map, dict):
        raise InvalidRequest(f"{index.path} has no weight_map")
    if missing := sorted({str(name) for name in weight_map.values()} - set(paths)):
        raise InvalidRequest(
            f"{index.path} names {len(missing)} weights that are not here: {missing[0][:100]}",
            "import the whole folder",
        )
