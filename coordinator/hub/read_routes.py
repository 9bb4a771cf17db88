"""The hub's read API: what a repository holds, and its files."""

from __future__ import annotations

import asyncio
import datetime
from collections import Counter
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import orjson
from aiohttp import web

from coordinator.core.hub_versions import folders_of, range_of
from coordinator.hub.bodies import object_of, read_whole
from coordinator.hub.errors import error_response
from coordinator.hub.repositories import MissingFile
from protos.domain.errors import InvalidRequest, NotFound, Overloaded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.core.hub_commit import TreeFile
    from coordinator.core.hub_versions import Version
    from coordinator.hub.access import Access
    from coordinator.hub.catalogue import Catalogue
    from coordinator.hub.repositories import Repositories
    from coordinator.operations.actor import Actor

#: Entries of a tree in one answer.
PAGE_ENTRIES = 1_000
#: Files that one account may download at once.
MAX_DOWNLOADS = 64
#: A client that takes nothing for so long is gone.
WRITE_IDLE_S = 60.0
_MAX_PATHS = 1_000
_MAX_FIELDS = 2_000
_POINTER_BYTES = 134


class ReadRoutes:
    """Answers about repositories."""

    def __init__(self, access: Access, repositories: Repositories, catalogue: Catalogue) -> None:
        self._access = access
        self._repositories = repositories
        self._catalogue = catalogue
        self._downloads: Counter[str] = Counter()

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        model = "/api/models/{owner}/{name}"
        router.add_get("/api/whoami-v2", self._whoami)
        router.add_get("/api/models", self._list)
        router.add_get(model, self._info)
        router.add_get(model + "/revision/{revision}", self._info)
        router.add_get(model + "/refs", self._refs)
        router.add_get(model + "/tree/{revision}", self._tree)
        router.add_get(model + "/tree/{revision}/{path:.+}", self._tree)
        router.add_post(model + "/paths-info/{revision}", self._paths_info)
        for prefix in ("", "/api/models"):
            router.add_get(prefix + "/{owner}/{name}/resolve/{revision}/{path:.+}", self._resolve)

    async def _whoami(self, request: web.Request) -> web.Response:
        actor = self._access.actor_of(request)
        return answer(
            {
                "type": "user",
                "id": actor.account_id,
                "name": actor.account_id,
                "fullname": actor.account_id,
                "isPro": False,
                "orgs": [],
                "auth": {
                    "type": "access_token",
                    "accessToken": {"displayName": "edgeforge", "role": "write"},
                },
            }
        )

    async def _list(self, request: web.Request) -> web.Response:
        actor = self._access.actor_of(request)
        author = request.query.get("author", "")
        found: list[dict[str, Any]] = []
        for repository, version in await self._catalogue.latest(actor):
            if len(found) < PAGE_ENTRIES and author in ("", repository.partition("/")[0]):
                found.append(_info(repository, version, blobs=False))
        return answer(found)

    async def _info(self, request: web.Request) -> web.Response:
        actor, repository = self._asked(request)
        revision = request.match_info.get("revision", "main")
        version = await self._repositories.version(actor, repository, revision)
        content = _info(repository, version, blobs=_flag(request, "blobs"))
        if fields := request.query.getall("expand", []):
            content = {
                name: value for name, value in content.items() if name in {*fields, "id", "_id"}
            }
        return answer(content)

    async def _refs(self, request: web.Request) -> web.Response:
        actor, repository = self._asked(request)
        versions = await self._repositories.versions(actor, repository)
        branches = [_ref("heads", "main", versions[-1])] if versions else []
        tags = [_ref("tags", version.tag, version) for version in versions]
        return answer({"branches": branches, "tags": tags, "converts": []})

    async def _tree(self, request: web.Request) -> web.Response:
        actor, repository = self._asked(request)
        version = await self._repositories.version(
            actor, repository, request.match_info["revision"]
        )
        folder = request.match_info.get("path", "").strip("/")
        if folder and folder not in folders_of(version.files):
            raise MissingFile(version, folder)
        entries = _entries(version.files, folder, recursive=_flag(request, "recursive"))
        start = _number(request, "cursor", 0)
        limit = min(PAGE_ENTRIES, max(1, _number(request, "limit", PAGE_ENTRIES)))
        response = answer(entries[start : start + limit])
        if start + limit < len(entries):
            target = request.rel_url.update_query(cursor=str(start + limit))
            response.headers["Link"] = f'<{request.url.origin().join(target)}>; rel="next"'
        return response

    async def _paths_info(self, request: web.Request) -> web.Response:
        actor, repository = self._asked(request)
        version = await self._repositories.version(
            actor, repository, request.match_info["revision"]
        )
        asked = {path.strip("/") for path in await _paths_of(request)}
        entries = _entries(version.files, "", recursive=True)
        return answer([one for one in entries if one["path"] in asked])

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        actor, repository = self._asked(request)
        try:
            version, file = await self._repositories.file(
                actor, repository, request.match_info["revision"], request.match_info["path"]
            )
        except MissingFile as missing:
            response = error_response(missing)
            response.headers["X-Repo-Commit"] = missing.revision
            return response
        headers = _file_headers(version, file)
        asked = request.headers.getall("Range", [])
        try:
            part = range_of(asked[0], file.size_bytes) if len(asked) == 1 else None
        except NotFound as error:
            headers["Content-Range"] = f"bytes */{file.size_bytes}"
            return web.Response(status=416, text=f"{error}\n", headers=headers)
        first, last = part or (0, file.size_bytes - 1)
        if part is not None:
            headers["Content-Range"] = f"bytes {first}-{last}/{file.size_bytes}"
        response_of_file = web.StreamResponse(status=206 if part else 200, headers=headers)
        response_of_file.content_length = last - first + 1
        if request.method == "HEAD":
            await response_of_file.prepare(request)
            return response_of_file
        await self._send(request, response_of_file, actor, file.sha256, first)
        return response_of_file

    async def _send(
        self,
        request: web.Request,
        response: web.StreamResponse,
        actor: Actor,
        sha256: bytes,
        first: int,
    ) -> None:
        if self._downloads[actor.account_id] >= MAX_DOWNLOADS:
            raise Overloaded(
                f"{MAX_DOWNLOADS} files are sent to this account", "ask again", retry_after_s=1
            )
        self._downloads[actor.account_id] += 1
        try:
            length = response.content_length or 0
            async with aclosing(self._catalogue.read(sha256, first, length)) as chunks:
                await response.prepare(request)
                async for chunk in chunks:
                    async with asyncio.timeout(WRITE_IDLE_S):
                        await response.write(chunk)
        except (TimeoutError, ConnectionError):
            request.protocol.force_close()  # the client has gone, or takes nothing
        finally:
            self._downloads[actor.account_id] -= 1
            if not self._downloads[actor.account_id]:
                del self._downloads[actor.account_id]

    def _asked(self, request: web.Request) -> tuple[Actor, str]:
        actor = self._access.actor_of(request)
        return actor, f"{request.match_info['owner']}/{request.match_info['name']}"


async def _paths_of(request: web.Request) -> list[str]:
    """Return the paths that a body names: a form, or JSON. Raises: InvalidRequest."""
    if "json" in request.content_type:
        paths = (await object_of(request)).get("paths")
    else:
        try:
            form = parse_qs((await read_whole(request)).decode(), max_num_fields=_MAX_FIELDS)
        except ValueError:
            raise InvalidRequest("the body is no form of paths") from None
        paths = form.get("paths", [])
    if not isinstance(paths, list):
        raise InvalidRequest("the body names no paths")
    return [path for path in paths[:_MAX_PATHS] if isinstance(path, str)]


def answer(content: object, status: int = 200) -> web.Response:
    """Return JSON that no cache keeps."""
    return web.Response(
        status=status,
        body=orjson.dumps(content),
        content_type="application/json",
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
    )


def _info(repository: str, version: Version, *, blobs: bool) -> dict[str, Any]:
    at = _time(version.published_unix_ms)
    card = {"license": version.licence} if version.licence else {}
    if version.base:
        card["base_model"] = version.base
    return {
        "_id": version.revision[:24],
        "id": repository,
        "modelId": repository,
        "author": repository.partition("/")[0],
        "sha": version.revision,
        "lastModified": at,
        "createdAt": at,
        "private": bool(version.account_id),
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "library_name": "peft" if version.base else "transformers",
        "pipeline_tag": "text-generation",
        "tags": [
            f"version:{version.tag}",
            *(f"license:{text}" for text in [version.licence] if text),
        ],
        "cardData": card,
        "siblings": [
            {"rfilename": file.path, **(_blob(file) if blobs else {})} for file in version.files
        ],
    }


def _blob(file: TreeFile) -> dict[str, Any]:
    sha256 = file.sha256.hex()
    lfs = {"sha256": sha256, "size": file.size_bytes, "pointerSize": _POINTER_BYTES}
    return {"size": file.size_bytes, "blobId": sha256[:40], "lfs": lfs}


def _entries(files: Sequence[TreeFile], folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    prefix = folder + "/" if folder else ""
    found: list[dict[str, Any]] = [
        {"type": "directory", "path": one, "oid": "0" * 40, "size": 0}
        for one in folders_of(files)
        if one.startswith(prefix) and (recursive or "/" not in one[len(prefix) :])
    ]
    for file in files:
        if file.path.startswith(prefix) and (recursive or "/" not in file.path[len(prefix) :]):
            sha256 = file.sha256.hex()
            found.append(
                {
                    "type": "file",
                    "path": file.path,
                    "size": file.size_bytes,
                    "oid": sha256[:40],
                    "lfs": {
                        "oid": sha256,
                        "size": file.size_bytes,
                        "pointerSize": _POINTER_BYTES,
                    },
                }
            )
    return sorted(found, key=lambda entry: str(entry["path"]))


def _file_headers(version: Version, file: TreeFile) -> dict[str, str]:
    etag = f'"{file.sha256.hex()}"'
    name = file.path.rpartition("/")[2]
    return {
        "ETag": etag,
        "X-Linked-ETag": etag,
        "X-Linked-Size": str(file.size_bytes),
        "X-Repo-Commit": version.revision,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Type": "application/octet-stream",
        "Content-Disposition": f'attachment; filename="{name}";',
        "X-Content-Type-Options": "nosniff",
    }


def _ref(kind: str, name: str, version: Version) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": version.revision}


def _time(unix_ms: int) -> str:
    at = datetime.datetime.fromtimestamp(unix_ms / 1_000, datetime.UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() in ("1", "true")


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 9 else default
