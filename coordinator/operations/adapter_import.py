"""Checks of an adapter before it is published: its configuration, and each tensor by its base."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from coordinator.core.adapter_config import CONFIG_NAME, AdapterConfig, check_adapter_config
from coordinator.core.adapter_tensors import WEIGHTS_NAME, Base, check_fits, check_values, misfits
from coordinator.core.model_files import LARGE_JSON, check_file
from coordinator.operations.model_import import card_licence, check_blobs, json_of, object_of
from coordinator.operations.weights import read_header, scanned, tensors_of
from protos.domain.errors import InvalidRequest
from protos.domain.manifest import check_adapter_manifest

if TYPE_CHECKING:
    from coordinator.blobs.interface import BlobStore
    from coordinator.core.safetensors_header import Tensor
    from protos.domain.resources import Model, ModelFile

_JSON_SUFFIX = ".json"


class ImportedAdapter(NamedTuple):
    """What the registry stores about an adapter's files."""

    rank: int
    weights_bytes: int
    licence: str


async def inspect_adapter(
    files: Sequence[ModelFile], base: Model, base_files: Sequence[ModelFile], blobs: BlobStore
) -> ImportedAdapter:
    """Return what the registry stores, if the base would use every tensor. Raises: InvalidRequest.

    Cheap checks come first; the last one reads all of the adapter's values.
    """
    check_adapter_manifest(files)
    await check_blobs(files, blobs)
    by_path = {file.path: file for file in files}
    config = check_adapter_config(await object_of(by_path[CONFIG_NAME], blobs))
    for file in files:
        name = file.path
        if name.endswith(_JSON_SUFFIX) and name != CONFIG_NAME and name not in LARGE_JSON:
            check_file(name, await json_of(file, blobs))
    weights = by_path[WEIGHTS_NAME]
    tensors = await read_header(weights, blobs)
    wanted = await _base_of(base, base_files, blobs)
    await asyncio.to_thread(check_fits, tensors, config, wanted)
    scan = await scanned(weights, tensors, blobs)
    check_values(tensors, scan.nonzero, scan.not_finite)
    return ImportedAdapter(config.max_rank, weights.size_bytes, await card_licence(files, blobs))


async def misfits_with(
    files: Sequence[ModelFile], base: Model, base_files: Sequence[ModelFile], blobs: BlobStore
) -> list[str]:
    """Return a sentence for each tensor of a published adapter that another base would not use."""
    config, tensors = await _published(files, blobs)
    wanted = await _base_of(base, base_files, blobs)
    return await asyncio.to_thread(misfits, tensors, config, wanted)


async def _published(
    files: Sequence[ModelFile], blobs: BlobStore
) -> tuple[AdapterConfig, dict[str, Tensor]]:
    by_path = {file.path: file for file in files}
    config = check_adapter_config(await object_of(by_path[CONFIG_NAME], blobs))
    return config, await read_header(by_path[WEIGHTS_NAME], blobs)


async def _base_of(base: Model, files: Sequence[ModelFile], blobs: BlobStore) -> Base:
    config_file = next((file for file in files if file.path == "config.json"), None)
    if config_file is None:
        raise InvalidRequest(
            f"the files of {base.name} are not here, so no adapter can be checked against it",
            "import the model itself; an external one has no adapters",
        )
    config = await object_of(config_file, blobs)
    architectures = config.get("architectures")
    architecture = str(architectures[0]) if isinstance(architectures, list) else ""
    return Base(base.name, architecture, await tensors_of(files, blobs))
