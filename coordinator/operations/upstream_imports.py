"""Imports from another hub: downloaded, stored and published by the rules of every door."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from coordinator.core.hub_versions import ADAPTER_CONFIG, kind_of, next_tag
from coordinator.core.strangers_json import parse
from coordinator.operations.acts import Act
from coordinator.operations.blob_access import check_stored_bytes
from coordinator.operations.publishing import publish_object
from coordinator.operations.registry_objects import NewObject, object_of, visible_rows
from coordinator.operations.upstream import Progress, Report, parse_upstream
from coordinator.operations.use_case import UseCases, named, note_of, use_case
from coordinator.store import audit
from protos.domain.errors import (
    EdgeForgeError,
    Forbidden,
    InvalidRequest,
    NotFound,
    Overloaded,
    TooLarge,
)
from protos.domain.ids import check_person
from protos.domain.model_folder import TIDIED_NAMES, without_dropped_keys
from protos.domain.object_names import ObjectKind, parse_ref
from protos.domain.resources import ModelFile

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor
    from coordinator.operations.registry_objects import RegistryObject
    from coordinator.operations.upstream import FetchedFile, Upstream
    from coordinator.operations.use_case import OperationsParts

_CHUNK_BYTES = 1024**2
_MAX_CONFIG_BYTES = 4 * 1024**2


@dataclass(frozen=True, slots=True)
class NewImport:
    """What is imported, and as what. ``name`` without a version gets the next number."""

    upstream: str
    name: str
    #: That owns it; empty: the operators.
    account_id: str = ""
    #: Of an adapter; empty: as its configuration says.
    base: str = ""


@dataclass(frozen=True, slots=True)
class Imported:
    """A published import."""

    object: RegistryObject
    commit: str
    left_out: tuple[str, ...]
    is_new: bool


def upstream_of(parts: OperationsParts) -> Upstream:
    """Return the other hub. Raises: NotFound when there is none."""
    if parts.upstream is None:
        raise NotFound("this coordinator imports from no hub")
    return parts.upstream


class UpstreamImports(UseCases):
    """The hub that hf:// names."""

    def __init__(self, parts: OperationsParts) -> None:
        super().__init__(parts)
        #: Accounts that import something now.
        self._importing: set[str] = set()

    @use_case(Act.UPSTREAM_IMPORT, named("object"))
    async def run(
        self, actor: Actor, name: str, new: NewImport, report: Report = lambda _: None
    ) -> Imported:
        """Download, check and publish; one that was interrupted goes on where it stopped.

        An account imports as itself, one at a time, and no more than it may store. Raises:
        InvalidRequest, NotFound, Forbidden, Conflict, LinkDown, Overloaded, TooLarge.
        """
        account_id = actor.account_id
        if not account_id:
            return await import_upstream(self._parts, actor, Act.UPSTREAM_IMPORT, new, report)
        # Before the download: it uses the token that is kept for the owner in the name.
        check_owner(actor, new.name)
        if account_id in self._importing:
            raise Overloaded(f"account {account_id!r} imports something already", "wait for it")
        self._importing.add(account_id)
        try:
            bounded = _bounded(report, self._parts.account_max_bytes)
            return await import_upstream(self._parts, actor, Act.UPSTREAM_IMPORT, new, bounded)
        finally:
            self._importing.discard(account_id)

    @use_case(Act.UPSTREAM_TOKEN, named("owner"))
    async def set_token(self, actor: Actor, owner: str, token: str) -> None:
        """Keep the token that imports under ``owner/`` use; empty: forget it.

        Raises: InvalidRequest.
        """
        check_person(owner)
        upstream_of(self._parts).set_token(owner, token)
        detail = "set" if token else "forgotten"
        await self._store.write(
            audit.append(note_of(actor, Act.UPSTREAM_TOKEN, f"owner/{owner}", detail))
        )

    def _has_token(self, owner: str) -> bool:
        upstream = self._parts.upstream
        return upstream is not None and upstream.has_token(owner)


def has_token(imports: UpstreamImports, owner: str) -> bool:
    """Return whether operators keep a token for an owner. No use case: no caller is told."""
    return imports._has_token(owner)


def check_owner(actor: Actor, name: str) -> None:
    """Refuse a name that is not of the actor's account. Raises: InvalidRequest, Forbidden."""
    owner = parse_ref(name).owner
    if owner != actor.account_id:
        raise Forbidden(
            f"account {actor.account_id!r} imports as {actor.account_id}/name, not as {owner}/",
            f"name it {actor.account_id}/{name.partition('/')[2]}",
        )


def _bounded(report: Report, most_bytes: int) -> Report:
    """Return a report that ends the download of more than ``most_bytes`` once that is known."""

    def reported(progress: Progress) -> None:
        if progress.total_bytes > most_bytes:
            raise TooLarge(
                f"the repository has {progress.total_bytes} bytes, {most_bytes} are allowed"
                " (blobs.account_max_bytes)",
                "import a smaller one, or ask an operator",
            )
        report(progress)

    return reported


async def import_upstream(
    parts: OperationsParts, actor: Actor, act: Act, new: NewImport, report: Report
) -> Imported:
    """Import and publish. Raises: as ``UpstreamImports.run``."""
    ref = parse_upstream(new.upstream)
    name = parse_ref(new.name)
    full_name = f"{name.repository}@{name.version or _next_tag(parts, name.repository)}"
    async with upstream_of(parts).fetched(ref, name.owner, report) as snapshot:
        files = []
        total_bytes = sum(file.size_bytes for file in snapshot.files)
        stored_bytes = 0
        for fetched in snapshot.files:
            report(Progress("storing", stored_bytes, total_bytes))
            files.append(await _stored(parts, actor, fetched))
            stored_bytes += fetched.size_bytes
        report(Progress("checking", total_bytes, total_bytes))
        kind = kind_of({file.path for file in files})
        base = ""
        if kind is ObjectKind.ADAPTER:
            base = new.base or await _base_of(parts, actor, snapshot.files)
        wanted = NewObject(
            kind=kind,
            name=full_name,
            files=tuple(files),
            base=base,
            account_id=new.account_id,
            source=f"hf://{ref.repository}@{snapshot.sha}",
            licence=snapshot.licence if snapshot.licence.isprintable() else "",
        )
        row, is_new = await publish_object(parts, actor, act, wanted)
    return Imported(object_of(parts.store, row), snapshot.sha, snapshot.left_out, is_new)


async def _stored(parts: OperationsParts, actor: Actor, fetched: FetchedFile) -> ModelFile:
    """Store a file, or what it is without the keys that no import keeps."""
    if fetched.path in TIDIED_NAMES and fetched.size_bytes <= _MAX_CONFIG_BYTES:
        content = await _json_in(fetched.source)
        kept, dropped = without_dropped_keys(content) if isinstance(content, dict) else ({}, [])
        if dropped:
            data = orjson.dumps(kept, option=orjson.OPT_INDENT_2) + b"\n"
            sha256 = hashlib.sha256(data).digest()
            await _write(parts, actor, sha256, len(data), _once(data))
            return ModelFile(fetched.path, sha256, len(data))
    chunks = _chunks_of(fetched.source)
    await _write(parts, actor, fetched.sha256, fetched.size_bytes, chunks)
    return ModelFile(fetched.path, fetched.sha256, fetched.size_bytes)


async def _write(
    parts: OperationsParts,
    actor: Actor,
    sha256: bytes,
    size_bytes: int,
    chunks: AsyncIterator[bytes],
) -> None:
    await check_stored_bytes(parts, actor, sha256, size_bytes)
    await parts.blobs.write(sha256, size_bytes, chunks, owner=actor.account_id)
    if actor.account_id:
        parts.blob_proofs.add(actor.account_id, sha256, size_bytes)


async def _base_of(parts: OperationsParts, actor: Actor, files: Sequence[FetchedFile]) -> str:
    """Return the model that an adapter names: of this registry, or imported from the same hub.

    Raises: InvalidRequest.
    """
    source = next(file.source for file in files if file.path == ADAPTER_CONFIG)
    config = await _json_in(source)
    named_base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    text = str(named_base or "")
    models = visible_rows(parts.store, actor, ObjectKind.MODEL)
    known = {row.name for row in models} | {row.name.partition("@")[0] for row in models}
    if text in known:
        return text
    published = [
        one
        for row in models
        if (one := parts.store.publications().get(row.name)) is not None
        and one.source.startswith(f"hf://{text}@")
    ]
    if text and published:
        return max(published, key=lambda one: (one.published_unix_ms, one.order)).name
    raise InvalidRequest(
        f"the adapter's base {text[:100]!a} is no model of this registry",
        "import the base first, or name it with --base owner/name@version",
    )


def _next_tag(parts: OperationsParts, repository: str) -> str:
    prefix = repository + "@"
    names = [*parts.store.publications(), *parts.store.view().models, *parts.store.view().adapters]
    return next_tag(name.removeprefix(prefix) for name in names if name.startswith(prefix))


async def _json_in(path: Path) -> Any:  # noqa: ANN401 - of any shape
    """Return the content of a small JSON file; None: it is none."""

    def read() -> Any:  # noqa: ANN401
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            return None
        return parse(path.read_bytes())

    try:
        return await asyncio.to_thread(read)
    except orjson.JSONDecodeError:
        return None


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _chunks_of(path: Path) -> AsyncIterator[bytes]:
    try:
        file = await asyncio.to_thread(path.open, "rb")
    except OSError as error:
        raise EdgeForgeError(f"a downloaded file has gone: {error.strerror}") from error
    with file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield chunk
