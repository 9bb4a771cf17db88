"""Repositories and commits over the registry; commits that are not complete wait as drafts."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import orjson

from coordinator.core.hub_commit import Commit, InlineFile, Operation, TreeFile, UploadedFile, apply
from coordinator.core.hub_versions import (
    ADAPTER_CONFIG,
    INDEX,
    Version,
    check_branch,
    check_repository,
    find_version,
    is_kept,
    kind_of,
    missing_parts,
    next_tag,
)
from coordinator.core.strangers_json import parse
from coordinator.hub.catalogue import NewVersion
from coordinator.hub.errors import ENTRY_NOT_FOUND, REPO_NOT_FOUND, REVISION_NOT_FOUND
from protos.domain.errors import Conflict, Forbidden, InvalidRequest, NotFound
from protos.domain.manifest import MAX_FILES, manifest_sha256
from protos.domain.model_folder import TIDIED_NAMES, without_dropped_keys
from protos.domain.object_names import REVISION_CHARS, ObjectKind, parse_ref
from protos.domain.resources import ModelFile

if TYPE_CHECKING:
    from coordinator.hub.catalogue import Catalogue
    from coordinator.operations.actor import Actor

#: Repositories without a version, and drafts, that are remembered.
MAX_DRAFTS = 1_000
MAX_DRAFTS_OF_ACCOUNT = 50
#: Largest configuration that is read here.
_MAX_CONFIG_BYTES = 4 * 1024**2
_MAX_INDEX_BYTES = 16 * 1024**2
_BASE_HINT = (
    "set base_model_name_or_path to owner/name or owner/name@version of a model of this registry"
)


@dataclass(frozen=True, slots=True)
class Draft:
    """Commits to one branch that are not an object yet. ``revision`` empty: created only."""

    revision: str = ""
    files: tuple[TreeFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Committed:
    """The end of a commit. ``missing`` is empty when it published ``name``."""

    revision: str
    name: str = ""
    missing: tuple[str, ...] = ()


class Repositories:
    """What every route does with repositories. One for a listener."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        #: By repository and branch. Only the owner's account can name a repository of its own.
        self._drafts: OrderedDict[tuple[str, str], Draft] = OrderedDict()
        #: By repository: publishing one may take a minute, and holds up no other.
        self._commits: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def versions(self, actor: Actor, repository: str) -> Sequence[Version]:
        """Return the versions that ``actor`` may read, oldest first. Raises: NotFound.

        What belongs to another account is not found, like what does not exist.
        """
        try:
            check_repository(repository)
        except InvalidRequest as error:
            raise _no_repository(repository) from error
        found = await self._catalogue.versions(actor, repository)
        if not found and not (_owns(actor, repository) and self._known(repository)):
            raise _no_repository(repository)
        return found

    async def version(self, actor: Actor, repository: str, revision: str) -> Version:
        """Return one version; an empty repository's ``main`` has no files. Raises: NotFound."""
        found = await self.versions(actor, repository)
        version = find_version(found, revision)
        if version is None and not found:
            version = self._draft_version(repository, revision)
        if version is None:
            raise NotFound(
                f"{repository} has no revision {revision[:60]!a}",
                "main is the latest; versions are its tags",
                code=REVISION_NOT_FOUND,
            )
        return version

    async def file(
        self, actor: Actor, repository: str, revision: str, path: str
    ) -> tuple[Version, TreeFile]:
        """Return a file of a version. Raises: NotFound."""
        version = await self.version(actor, repository, revision)
        for file in version.files:
            if file.path == path:
                return version, file
        raise MissingFile(version, path)

    def create(self, actor: Actor, repository: str) -> None:
        """Remember a repository that has no version yet. Raises: InvalidRequest, Forbidden."""
        self.require_own(actor, repository)
        self._keep(repository, "", self._drafts.get((repository, ""), Draft()))

    def require_own(self, actor: Actor, repository: str) -> None:
        """Raises: InvalidRequest, or Forbidden unless the account may publish there."""
        check_repository(repository)
        if not _owns(actor, repository):
            raise Forbidden(
                f"this key publishes under {actor.account_id}/ only",
                f"name the repository {actor.account_id}/{repository.partition('/')[2]}",
            )

    async def commit(
        self, actor: Actor, repository: str, revision: str, commit: Commit
    ) -> Committed:
        """Publish the files after a commit as a version, or keep them as a draft.

        One at a time for each repository. Raises: InvalidRequest, Forbidden, Conflict, NotFound.
        """
        self.require_own(actor, repository)
        branch = check_branch(revision)
        lock = self._commits.setdefault(repository, asyncio.Lock())
        async with lock:
            versions = await self._catalogue.versions(actor, repository)
            if branch and find_version(versions, branch) is not None:
                raise Conflict(
                    f"{repository}@{branch} is published, and a version never changes",
                    "commit to main, or to a new version",
                    retryable=False,
                )
            draft = self._drafts.get((repository, branch), Draft())
            base = draft.files if draft.revision else (versions[-1].files if versions else ())
            parent = draft.revision or (versions[-1].revision if versions else "")
            if commit.parent and commit.parent != parent:
                raise Conflict(
                    "the branch has moved since: its head is another commit",
                    "download it again, then commit",
                    retryable=False,
                )
            named = {one.sha256 for one in commit.operations if isinstance(one, UploadedFile)}
            missing = await self._missing(actor, sorted(named))
            operations = [await self._stored(actor, one, missing) for one in commit.operations]
            files = await self._as_served(actor, apply(base, operations))
            return await self._finish(actor, repository, branch, files, versions)

    async def _finish(
        self,
        actor: Actor,
        repository: str,
        branch: str,
        files: tuple[TreeFile, ...],
        versions: Sequence[Version],
    ) -> Committed:
        if len(files) > MAX_FILES:
            raise InvalidRequest(f"{len(files)} files are more than {MAX_FILES}")
        if not branch and versions and versions[-1].files == files:
            return Committed(versions[-1].revision, versions[-1].name)
        paths = {file.path for file in files}
        index = await self._json_of(files, INDEX, _MAX_INDEX_BYTES)
        missing = missing_parts(paths, index if isinstance(index, dict) else None)
        if missing:
            revision = _revision_of(files)
            self._keep(repository, branch, Draft(revision, files))
            return Committed(revision, missing=tuple(missing))
        tag = branch or next_tag(await self._catalogue.taken_tags(actor, repository))
        name = f"{repository}@{tag}"
        kind = kind_of(paths)
        base = await self._base_of(files) if kind is ObjectKind.ADAPTER else ""
        try:
            version = await self._catalogue.publish(actor, NewVersion(name, kind, files, base))
        except NotFound as error:
            raise InvalidRequest(f"{ADAPTER_CONFIG}: {error.message}", _BASE_HINT) from error
        self._drafts.pop((repository, branch), None)
        return Committed(version.revision, version.name)

    async def _base_of(self, files: Sequence[TreeFile]) -> str:
        """Return the base that an adapter names. Raises: InvalidRequest."""
        config = await self._json_of(files, ADAPTER_CONFIG, _MAX_CONFIG_BYTES)
        base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
        if not isinstance(base, str) or not base:
            raise InvalidRequest(
                f"{ADAPTER_CONFIG} names no base model: base_model_name_or_path", _BASE_HINT
            )
        try:
            parse_ref(base)
        except InvalidRequest:
            raise InvalidRequest(
                f"{ADAPTER_CONFIG}: the base {base[:100]!a} is no model of this registry",
                _BASE_HINT,
            ) from None
        return base

    async def _stored(self, actor: Actor, one: Operation, missing: Collection[bytes]) -> Operation:
        """Return an operation whose content is here and the account's. Raises: InvalidRequest."""
        if isinstance(one, InlineFile):
            if not is_kept(one.path):
                return UploadedFile(one.path, hashlib.sha256(one.content).digest(), 1)
            sha256 = await self._store(actor, one.content)
            return UploadedFile(one.path, sha256, len(one.content))
        if isinstance(one, UploadedFile) and is_kept(one.path):
            if one.sha256 in missing:
                raise InvalidRequest(
                    f"{one.path} has not been uploaded by this account",
                    "upload again: only what is missing is sent",
                )
            size_bytes = await self._catalogue.size_bytes(one.sha256)
            if one.size_bytes not in (None, size_bytes):
                raise InvalidRequest(f"{one.path} has {size_bytes} bytes, not {one.size_bytes}")
            return replace(one, size_bytes=size_bytes)
        return one

    async def _store(self, actor: Actor, content: bytes) -> bytes:
        sha256 = hashlib.sha256(content).digest()

        async def chunks() -> AsyncIterator[bytes]:
            yield content

        if await self._catalogue.missing(actor, [sha256]):
            await self._catalogue.receive(actor, sha256, len(content), chunks())
        return sha256

    async def _missing(self, actor: Actor, sha256s: Sequence[bytes]) -> Collection[bytes]:
        if len(sha256s) > MAX_FILES:
            raise InvalidRequest(f"{len(sha256s)} files are more than {MAX_FILES}")
        return await self._catalogue.missing(actor, sha256s)

    async def _as_served(self, actor: Actor, files: Sequence[TreeFile]) -> tuple[TreeFile, ...]:
        """Return what an import of the folder would send: see ``protos.domain.model_folder``."""
        kept = []
        for file in files:
            if not is_kept(file.path):
                continue
            if file.path in TIDIED_NAMES and file.size_bytes <= _MAX_CONFIG_BYTES:
                file = await self._tidied(actor, file)
            kept.append(file)
        return tuple(kept)

    async def _tidied(self, actor: Actor, file: TreeFile) -> TreeFile:
        content = await self._json_of((file,), file.path, _MAX_CONFIG_BYTES)
        if not isinstance(content, dict):
            return file  # publishing says what is wrong with it
        kept, dropped = without_dropped_keys(content)
        if not dropped:
            return file
        data = orjson.dumps(kept, option=orjson.OPT_INDENT_2) + b"\n"
        return TreeFile(file.path, await self._store(actor, data), len(data))

    async def _json_of(self, files: Sequence[TreeFile], path: str, limit_bytes: int) -> Any:  # noqa: ANN401
        """Return the content of a small JSON file; None: not there, too large, or no JSON."""
        for file in files:
            if file.path == path and file.size_bytes <= limit_bytes:
                data = bytearray()
                async with aclosing(self._catalogue.read(file.sha256, 0, file.size_bytes)) as some:
                    async for chunk in some:
                        data += chunk
                try:
                    return await asyncio.to_thread(parse, bytes(data))
                except orjson.JSONDecodeError:
                    return None
        return None

    def _known(self, repository: str) -> bool:
        return any(of == repository for of, _ in self._drafts)

    def _draft_version(self, repository: str, revision: str) -> Version | None:
        for (of, branch), draft in reversed(self._drafts.items()):
            if of == repository and revision in (branch or "main", draft.revision, "main"):
                shown = draft.revision or _revision_of(())
                kind = kind_of({file.path for file in draft.files})
                return Version(f"{repository}@{branch or 'main'}", kind, shown, 0, draft.files)
        return None

    def _keep(self, repository: str, branch: str, draft: Draft) -> None:
        key = (repository, branch)
        owner = repository.partition("/")[0]
        if key not in self._drafts:
            count = sum(of.partition("/")[0] == owner for of, _ in self._drafts)
            if count >= MAX_DRAFTS_OF_ACCOUNT:
                oldest = next(one for one in self._drafts if one[0].startswith(owner + "/"))
                del self._drafts[oldest]
            if len(self._drafts) >= MAX_DRAFTS:
                self._drafts.popitem(last=False)
        self._drafts[key] = draft
        self._drafts.move_to_end(key)


class MissingFile(NotFound):
    """A version has no file of this path. Clients remember that by its revision."""

    def __init__(self, version: Version, path: str) -> None:
        super().__init__(
            f"{version.name} has no file {path[:100]!a}", "list its files", code=ENTRY_NOT_FOUND
        )
        self.revision = version.revision


def _owns(actor: Actor, repository: str) -> bool:
    return repository.partition("/")[0] == actor.account_id


def _no_repository(repository: str) -> NotFound:
    return NotFound(
        f"there is no repository {repository[:100]!a}",
        "owner/name of a model or adapter that this key may read",
        code=REPO_NOT_FOUND,
    )


def _revision_of(files: Sequence[TreeFile]) -> str:
    listed = [ModelFile(one.path, one.sha256, one.size_bytes) for one in files]
    return manifest_sha256(listed).hex()[:REVISION_CHARS]
