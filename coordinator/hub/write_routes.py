"""The hub's write API: LFS uploads, at once or in parts, and commits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import orjson
from aiohttp import web

from coordinator.core.hub_commit import CommitReader, check_folder, sha256_of
from coordinator.core.hub_uploads import PART_BYTES, part_count, part_span
from coordinator.core.hub_versions import check_branch, find_version, is_kept
from coordinator.hub.access import TICKET_LIFE_MS, Ticket
from coordinator.hub.bodies import after, body_of, lines_of, object_of
from coordinator.hub.read_routes import answer
from protos.domain.errors import Conflict, InvalidRequest, TooLarge
from protos.domain.manifest import MAX_FILE_BYTES, check_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.hub.access import Access
    from coordinator.hub.catalogue import Catalogue
    from coordinator.hub.repositories import Committed, Repositories
    from coordinator.operations.actor import Actor

#: Commits that are read at once.
MAX_COMMITS = 4
#: Of these, those of one account.
MAX_COMMITS_OF_ACCOUNT = 2
#: Objects of one LFS request; clients send 256.
MAX_OBJECTS = 1_000
_CONTENT_TYPE = "application/vnd.git-lfs+json"


class WriteRoutes:
    """Takes files and commits."""

    def __init__(
        self,
        access: Access,
        repositories: Repositories,
        catalogue: Catalogue,
        *,
        advertise: str,
        now_unix_ms: Callable[[], int],
    ) -> None:
        self._access = access
        self._repositories = repositories
        self._catalogue = catalogue
        self._advertise = advertise.rstrip("/")
        self._now_unix_ms = now_unix_ms
        self._commits = asyncio.Semaphore(MAX_COMMITS)
        self._own_commits: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        model = "/api/models/{owner}/{name}"
        router.add_post("/api/repos/create", self._create)
        router.add_post("/api/validate-yaml", self._validate_yaml)
        router.add_post(model + "/branch/{revision}", self._branch)
        router.add_post(model + "/preupload/{revision}", self._preupload)
        router.add_post(model + "/commit/{revision}", self._commit)
        router.add_post("/{owner}/{name}.git/info/lfs/objects/batch", self._batch)
        router.add_post("/{owner}/{name}.git/info/lfs/objects/verify", self._verify)
        router.add_put("/uploads/{ticket}", self._upload)
        router.add_post("/uploads/{ticket}", self._complete)

    async def _create(self, request: web.Request) -> web.Response:
        actor = self._access.actor_of(request)
        body = await object_of(request)
        if body.get("type", "model") != "model":
            raise InvalidRequest("only repositories of models can be made")
        owner, name = body.get("organization") or actor.account_id, body.get("name")
        if not isinstance(owner, str) or not isinstance(name, str):
            raise InvalidRequest("the body has no name of a repository")
        repository = f"{owner}/{name}"
        self._repositories.require_own(actor, repository)
        url = f"{self._origin(request)}/{repository}"
        if await self._catalogue.versions(actor, repository):
            return answer({"error": "You already created this model repo", "url": url}, 409)
        self._repositories.create(actor, repository)
        return answer({"url": url, "name": repository, "id": repository})

    async def _branch(self, request: web.Request) -> web.Response:
        """Accept the name of a new version: it is made by the commit that publishes it."""
        actor, repository = self._asked(request)
        self._repositories.require_own(actor, repository)
        branch = check_branch(request.match_info["revision"])
        versions = await self._repositories.versions(actor, repository)
        if not branch or find_version(versions, branch) is not None:
            raise Conflict("Reference already exists", retryable=False)
        return answer({})

    async def _validate_yaml(self, request: web.Request) -> web.Response:
        self._access.actor_of(request)
        await object_of(request)
        return answer({"errors": [], "warnings": []})

    async def _preupload(self, request: web.Request) -> web.Response:
        """Say how each file is sent: over LFS. Refuses names that no object may hold."""
        actor, repository = self._asked(request)
        self._repositories.require_own(actor, repository)
        _refuse_pull_request(request)
        body = await object_of(request)
        versions = await self._catalogue.versions(actor, repository)
        present = {file.path: file for file in versions[-1].files} if versions else {}
        found = []
        for file in _list_of(body, "files"):
            path = str(file.get("path"))
            kept = is_kept(path)
            if kept:
                check_path(path)
            else:
                check_folder(path)
            oid = present[path].sha256.hex() if path in present else None
            found.append({"path": path, "uploadMode": "lfs", "shouldIgnore": not kept, "oid": oid})
        return answer({"files": found})

    async def _batch(self, request: web.Request) -> web.Response:
        actor, repository = self._asked(request)
        self._repositories.require_own(actor, repository)
        body = await object_of(request)
        if body.get("operation") != "upload":
            raise InvalidRequest("files are downloaded from /OWNER/NAME/resolve/REVISION/PATH")
        transfers = body.get("transfers")
        in_parts = isinstance(transfers, list) and "multipart" in transfers
        asked = [(sha256_of(one.get("oid")), _size_of(one)) for one in _list_of(body, "objects")]
        missing = await self._catalogue.missing(actor, [sha256 for sha256, _ in asked])
        objects = []
        for sha256, size_bytes in asked:
            entry: dict[str, Any] = {"oid": sha256.hex(), "size": size_bytes}
            if size_bytes > MAX_FILE_BYTES:
                text = f"{size_bytes} bytes are more than {MAX_FILE_BYTES}"
                entry["error"] = {"code": 413, "message": text}
            elif sha256 in missing:
                entry["authenticated"] = True
                entry["actions"] = self._actions(
                    request, actor, repository, sha256, size_bytes, in_parts=in_parts
                )
            objects.append(entry)
        return _lfs_answer({"transfer": "multipart" if in_parts else "basic", "objects": objects})

    def _actions(
        self,
        request: web.Request,
        actor: Actor,
        repository: str,
        sha256: bytes,
        size_bytes: int,
        *,
        in_parts: bool,
    ) -> dict[str, Any]:
        origin = self._origin(request)
        expires_unix_ms = self._now_unix_ms() + TICKET_LIFE_MS

        def address(part: int) -> str:
            ticket = Ticket(actor.account_id, sha256, size_bytes, part, expires_unix_ms)
            return f"{origin}/uploads/{self._access.ticket(ticket)}"

        upload: dict[str, Any] = {"href": address(0), "header": {}}
        if in_parts and (count := part_count(size_bytes)):
            upload["header"] = {"chunk_size": str(PART_BYTES)} | {
                f"{part:05d}": address(part) for part in range(1, count + 1)
            }
        verify = {"href": f"{origin}/{repository}.git/info/lfs/objects/verify", "header": {}}
        return {"upload": upload, "verify": verify}

    async def _upload(self, request: web.Request) -> web.Response:
        """Receive a file, or a part of one. The file is kept only if its digest is right."""
        ticket, actor = self._access.redeemed(request, request.match_info["ticket"])
        if ticket.part:
            await self._receive_part(request, ticket, actor)
            return web.Response(headers={"ETag": f'"{ticket.part}"'})
        chunks = body_of(request, ticket.size_bytes)
        await self._catalogue.receive(actor, ticket.sha256, ticket.size_bytes, chunks)
        return web.Response()

    async def _receive_part(self, request: web.Request, ticket: Ticket, actor: Actor) -> None:
        """Continue an upload by one part; what has arrived of it before is not written again."""
        start, length = part_span(ticket.size_bytes, ticket.part)
        have_bytes = await self._catalogue.received_bytes(actor, ticket.sha256)
        if have_bytes < start:
            raise Conflict(
                f"part {ticket.part} begins at {start}, {have_bytes} bytes have arrived",
                "send the parts in their order",
            )
        chunks = after(body_of(request, length), min(length, have_bytes - start))
        if have_bytes >= start + length:
            async for _ in chunks:
                pass
            return
        await self._catalogue.append(actor, ticket.sha256, ticket.size_bytes, have_bytes, chunks)

    async def _complete(self, request: web.Request) -> web.Response:
        """End an upload in parts."""
        ticket, actor = self._access.redeemed(request, request.match_info["ticket"])
        body = await object_of(request)
        if ticket.part or body.get("oid") != ticket.sha256.hex():
            raise InvalidRequest("this address ends the upload of another file")
        received_bytes = await self._catalogue.received_bytes(actor, ticket.sha256)
        if received_bytes != ticket.size_bytes:
            raise InvalidRequest(
                f"{received_bytes} of {ticket.size_bytes} bytes have arrived", "upload again"
            )
        return _lfs_answer({"success": True})

    async def _verify(self, request: web.Request) -> web.Response:
        actor, repository = self._asked(request)
        self._repositories.require_own(actor, repository)
        body = await object_of(request)
        sha256, size_bytes = sha256_of(body.get("oid")), _size_of(body)
        if await self._catalogue.missing(actor, [sha256]):
            raise InvalidRequest("the file has not arrived", "upload it again")
        if await self._catalogue.size_bytes(sha256) != size_bytes:
            raise InvalidRequest("the file has another size")
        return _lfs_answer({})

    async def _commit(self, request: web.Request) -> web.Response:
        actor, repository = self._asked(request)
        self._repositories.require_own(actor, repository)
        _refuse_pull_request(request)
        own = self._own_commits.setdefault(
            actor.account_id, asyncio.Semaphore(MAX_COMMITS_OF_ACCOUNT)
        )
        async with own, self._commits:
            reader = CommitReader()
            async for line in lines_of(request):
                reader.take(line)
            commit = reader.finish()
        # The body may have taken minutes, in which a member is removed and a key ends.
        actor, repository = self._asked(request)
        self._repositories.require_own(actor, repository)
        revision = request.match_info["revision"]
        done = await self._repositories.commit(actor, repository, revision, commit)
        return answer(self._committed(request, repository, done))

    def _committed(self, request: web.Request, repository: str, done: Committed) -> dict[str, Any]:
        content: dict[str, Any] = {
            "success": True,
            "commitOid": done.revision,
            "commitUrl": f"{self._origin(request)}/{repository}/commit/{done.revision}",
            "hookOutput": done.name or f"not published yet, missing: {', '.join(done.missing[:5])}",
        }
        return content

    def _asked(self, request: web.Request) -> tuple[Actor, str]:
        actor = self._access.actor_of(request)
        return actor, f"{request.match_info['owner']}/{request.match_info['name']}"

    def _origin(self, request: web.Request) -> str:
        return self._advertise or str(request.url.origin())


def _list_of(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    listed = body.get(name)
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise InvalidRequest(f"the body has no list of {name}")
    if len(listed) > MAX_OBJECTS:
        raise TooLarge(f"{len(listed)} {name} are more than {MAX_OBJECTS}")
    return listed


def _size_of(one: dict[str, Any]) -> int:
    size_bytes = one.get("size")
    if isinstance(size_bytes, bool) or not isinstance(size_bytes, int) or size_bytes < 1:
        raise InvalidRequest("a size is not a positive number")
    return size_bytes


def _refuse_pull_request(request: web.Request) -> None:
    if request.query.get("create_pr", "") in ("1", "true"):
        raise InvalidRequest("there are no pull requests here", "commit to main or a new version")


def _lfs_answer(content: object) -> web.Response:
    return web.Response(body=orjson.dumps(content), content_type=_CONTENT_TYPE)
