"""Checks of a model before it is registered: JSON files, templates, headers of weights."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import orjson

from coordinator.blobs.import_trial import Template, Trial, TrialLimits, try_model
from coordinator.core.model_card import MAX_CARD_BYTES, licence_of
from coordinator.core.model_config import check_config
from coordinator.core.model_files import (
    INDEX_NAME,
    LARGE_JSON,
    MAX_CONFIG_BYTES,
    MAX_INDEX_BYTES,
    check_file,
    check_names,
)
from coordinator.core.strangers_json import parse
from coordinator.core.swap_key import swap_key
from coordinator.core.tokenizer_config import MAX_TEMPLATE_CHARS, MAX_TEMPLATES, templates_of
from coordinator.operations.weights import tensors_of
from protos.domain.errors import InvalidRequest
from protos.domain.manifest import check_manifest

if TYPE_CHECKING:
    from coordinator.blobs.interface import BlobStore
    from protos.domain.resources import ModelFile

_CONFIG = "config.json"
_JSON_SUFFIX = ".json"
_TEMPLATE_SUFFIX = ".jinja"
_WEIGHTS_SUFFIX = ".safetensors"
#: Files whose ``chat_template`` the engine may use.
_TEMPLATE_HOLDERS = ("tokenizer_config.json", "chat_template.json")
_SPECIAL_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
_MAX_TEMPLATE_BYTES = 4 * MAX_TEMPLATE_CHARS


class ImportedModel(NamedTuple):
    """What the registry stores about a model's files."""

    family: str
    context_tokens: int
    weights_bytes: int
    swap_key: bytes = b""
    #: As its card says; empty: it does not.
    licence: str = ""


async def inspect_model(
    files: Sequence[ModelFile], blobs: BlobStore, limits: TrialLimits | None = None
) -> ImportedModel:
    """Return what the registry stores, if all files may be served. Raises: InvalidRequest.

    Cheap checks come first; the last one runs templates and tokenizer in a child process.
    """
    check_manifest(files)
    check_names(file.path for file in files)
    await check_blobs(files, blobs)
    by_path = {file.path: file for file in files}
    raw_config = await object_of(by_path[_CONFIG], blobs)
    config = check_config(raw_config)
    contents: dict[str, object] = {_CONFIG: raw_config}
    for file in files:
        name = file.path
        if name.endswith(_JSON_SUFFIX) and name != _CONFIG and name not in LARGE_JSON:
            contents[name] = await json_of(file, blobs)
            check_file(name, contents[name])
    if INDEX_NAME in contents:
        _check_index(contents[INDEX_NAME], by_path.keys())
    weights = [file for file in files if file.path.endswith(_WEIGHTS_SUFFIX)]
    await tensors_of(weights, blobs)
    async with contextlib.AsyncExitStack() as copies:
        trial = await _trial_of(files, contents, blobs, copies)
        await try_model(trial, blobs.trial_place, limits or TrialLimits())
    return ImportedModel(
        config.family,
        config.context_tokens,
        sum(file.size_bytes for file in weights),
        swap_key(files, contents),
        await card_licence(files, blobs),
    )


async def check_blobs(files: Sequence[ModelFile], blobs: BlobStore) -> None:
    """Refuse files that have not been uploaded, or have another size. Raises: InvalidRequest."""
    sizes_bytes = {file.path: await blobs.size_bytes(file.sha256) for file in files}
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


async def json_of(file: ModelFile, blobs: BlobStore) -> object:
    """Return what a small JSON file says. Raises: InvalidRequest."""
    limit_bytes = MAX_INDEX_BYTES if file.path == INDEX_NAME else MAX_CONFIG_BYTES
    if file.size_bytes > limit_bytes:
        raise InvalidRequest(f"{file.path} has {file.size_bytes} bytes, {limit_bytes} are allowed")
    try:
        data = await blobs.read_start(file.sha256, limit_bytes)
        return await asyncio.to_thread(parse, data)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"{file.path} is not JSON: {error}") from error


async def object_of(file: ModelFile, blobs: BlobStore) -> dict[str, object]:
    """Return a JSON file that is an object. Raises: InvalidRequest."""
    content = await json_of(file, blobs)
    if not isinstance(content, dict):
        raise InvalidRequest(f"{file.path} is not a JSON object")
    return content


async def card_licence(files: Sequence[ModelFile], blobs: BlobStore) -> str:
    """Return the licence that a model card names, empty if there is none."""
    card = next((file for file in files if file.path == "README.md"), None)
    if card is None:
        return ""
    return licence_of(
        (await blobs.read_start(card.sha256, MAX_CARD_BYTES)).decode(errors="replace")
    )


def _check_index(index: object, paths: Iterable[str]) -> None:
    weight_map = index["weight_map"] if isinstance(index, dict) else {}
    if missing := sorted({str(name) for name in weight_map.values()} - set(paths)):
        raise InvalidRequest(
            f"{INDEX_NAME} names {len(missing)} weights that are not here: {missing[0][:100]}",
            "import the whole folder",
        )


async def _trial_of(
    files: Sequence[ModelFile],
    contents: Mapping[str, object],
    blobs: BlobStore,
    copies: contextlib.AsyncExitStack,
) -> Trial:
    """Return what is to be tried of a model's files, held by ``copies``. Raises: InvalidRequest."""
    templates = []
    for name in _TEMPLATE_HOLDERS:
        held = contents.get(name)
        if isinstance(held, Mapping):
            templates += [Template(name, text) for text in templates_of(held.get("chat_template"))]
    for file in files:
        if file.path.endswith(_TEMPLATE_SUFFIX):
            templates.append(Template(file.path, await _text_of(file, blobs)))
    if len(templates) > MAX_TEMPLATES:
        raise InvalidRequest(f"{len(templates)} chat templates are more than {MAX_TEMPLATES}")
    large = {
        file.path: str(await copies.enter_async_context(blobs.local_copy(file.sha256)))
        for file in files
        if file.path in LARGE_JSON
    }
    return Trial(large, templates, _special_tokens(contents.get("tokenizer_config.json")))


async def _text_of(file: ModelFile, blobs: BlobStore) -> str:
    if file.size_bytes > _MAX_TEMPLATE_BYTES:
        raise InvalidRequest(
            f"{file.path} has {file.size_bytes} bytes, {_MAX_TEMPLATE_BYTES} are allowed"
        )
    try:
        return (await blobs.read_start(file.sha256, _MAX_TEMPLATE_BYTES)).decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{file.path} is not UTF-8 text") from error


def _special_tokens(config: object) -> dict[str, str]:
    found = {}
    for name in _SPECIAL_TOKENS:
        token = config.get(name) if isinstance(config, Mapping) else None
        text = token.get("content") if isinstance(token, Mapping) else token
        found[name] = text if isinstance(text, str) else ""
    return found
