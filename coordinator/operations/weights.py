"""Headers and values of safetensors files among the blobs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import orjson

from coordinator.core import safetensors_header
from coordinator.core.strangers_json import parse
from coordinator.core.value_scan import ValueScan
from protos.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from coordinator.blobs.interface import BlobStore
    from coordinator.core.safetensors_header import Tensor
    from protos.domain.resources import ModelFile

#: Tensors of all files of a model: they are held in memory when an adapter is checked.
MAX_MODEL_TENSORS = 262_144
_WEIGHTS_SUFFIX = ".safetensors"


async def read_header(file: ModelFile, blobs: BlobStore) -> dict[str, Tensor]:
    """Return the tensors of a file whose header fits its size. Raises: InvalidRequest."""
    head = await blobs.read_start(file.sha256, safetensors_header.LENGTH_BYTES + 1)
    length_bytes = safetensors_header.header_bytes(head, file.size_bytes, file.path)
    end = safetensors_header.LENGTH_BYTES + length_bytes
    data = await blobs.read_start(file.sha256, end)
    return await asyncio.to_thread(
        _checked_tensors, data[safetensors_header.LENGTH_BYTES :], file.size_bytes - end, file.path
    )


async def tensors_of(files: Sequence[ModelFile], blobs: BlobStore) -> dict[str, Tensor]:
    """Return the tensors of all weights among ``files``. Raises: InvalidRequest."""
    found: dict[str, Tensor] = {}
    for file in files:
        if file.path.endswith(_WEIGHTS_SUFFIX):
            found |= await read_header(file, blobs)
            if len(found) > MAX_MODEL_TENSORS:
                raise InvalidRequest(
                    f"the model has more than {MAX_MODEL_TENSORS} tensors", "merge some of them"
                )
    return found


async def scanned(file: ModelFile, tensors: Mapping[str, Tensor], blobs: BlobStore) -> ValueScan:
    """Return what the values of a checked file are; reads all of it."""
    scan = ValueScan(tensors)
    start = file.size_bytes - max(one.last for one in tensors.values())
    async with contextlib.aclosing(blobs.read(file.sha256, start)) as chunks:
        async for chunk in chunks:
            await asyncio.to_thread(scan.feed, chunk)
    return scan


def _checked_tensors(data: bytes, data_bytes: int, path: str) -> dict[str, Tensor]:
    try:
        header = parse(data)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            f"{path} is not a safetensors file: its header is not JSON",
            "convert the weights again with the safetensors library",
        ) from error
    if not isinstance(header, dict):
        raise InvalidRequest(f"{path} is not a safetensors file: its header is not an object")
    safetensors_header.check_header(header, data_bytes, path)
    return safetensors_header.tensors_of(header)
