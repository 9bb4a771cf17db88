"""Another hub on loopback that keeps to the protocol, or does not as a test sets."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

SHA = "a" * 40


@dataclass(slots=True)
class FakeHub:
    """One repository, ``org/repo``. Fields that a test sets make it misbehave."""

    files: dict[str, bytes]
    sha: str = SHA
    licence: str = "mit"
    port: int = 0
    #: Path -> the address that its download is redirected to.
    redirects: dict[str, str] = field(default_factory=dict)
    #: Of the listing itself.
    redirect_listing: str = ""
    #: Path -> the size that the listing names.
    listed_sizes: dict[str, int] = field(default_factory=dict)
    #: Path -> where its next download breaks off.
    cuts: dict[str, int] = field(default_factory=dict)
    #: Path -> bytes that are sent instead when a range is asked for.
    other_bytes: dict[str, bytes] = field(default_factory=dict)
    #: Path -> bytes that are sent instead of the listed ones, always.
    wrong_bytes: dict[str, bytes] = field(default_factory=dict)
    #: Paths whose downloads stand still after their first byte.
    silent: set[str] = field(default_factory=set)
    #: Paths whose downloads do not end, and "listing".
    endless: set[str] = field(default_factory=set)
    #: Paths that are sent packed, and "listing".
    packed: set[str] = field(default_factory=set)
    #: Paths of which no digest is listed.
    unlisted: set[str] = field(default_factory=set)
    sent_bytes: int = 0
    #: A token that is required; empty: none.
    token: str = ""
    #: Names in the listing that are no files here.
    extra_names: list[str] = field(default_factory=list)
    ranges: list[tuple[str, str]] = field(default_factory=list)
    tokens_seen: set[str] = field(default_factory=set)
    downloads: list[str] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def listing(self) -> dict[str, Any]:
        siblings = [
            {
                "rfilename": name,
                "size": (size := self.listed_sizes.get(name, len(data))),
                "blobId": "b" * 40,
                "lfs": {
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "size": size,
                    "pointerSize": 134,
                },
            }
            for name, data in self.files.items()
        ]
        for one in siblings:
            if one["rfilename"] in self.unlisted:
                del one["blobId"], one["lfs"]
        siblings += [{"rfilename": name, "size": 10} for name in self.extra_names]
        return {
            "id": "org/repo",
            "sha": self.sha,
            "siblings": siblings,
            "cardData": {"license": self.licence},
            "tags": [],
        }

    async def info(self, request: web.Request) -> web.StreamResponse:
        if self.redirect_listing:
            raise web.HTTPFound(self.redirect_listing)
        self.tokens_seen.add(request.headers.get("Authorization", ""))
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({}, status=401, headers={"X-Error-Code": "GatedRepo"})
        if "listing" in self.endless:
            return await self._without_end(request)
        response = web.json_response(self.listing())
        if "listing" in self.packed:
            response.enable_compression(web.ContentCoding.gzip)
        return response

    async def _without_end(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" " * 2**20)
                self.sent_bytes += 2**20
        return response

    async def resolve(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["path"]
        self.downloads.append(name)
        if name in self.redirects:
            raise web.HTTPFound(self.redirects[name])
        if name in self.endless:
            return await self._without_end(request)
        if name in self.packed:
            packed = web.Response(body=self.files[name])
            packed.enable_compression(web.ContentCoding.gzip)
            return packed
        data = self.wrong_bytes.get(name, self.files[name])
        asked = request.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked:
            self.ranges.append((name, asked))
            data = self.other_bytes.get(name, data)
        response = web.StreamResponse(status=206 if asked else 200)
        response.content_length = len(data) - start
        if asked:
            response.headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        await response.prepare(request)
        end = self.cuts.pop(name, len(data))
        if name in self.silent:
            await response.write(data[start : start + 1])
            await asyncio.sleep(3_600)
        await response.write(data[start:end])
        if end < len(data):
            assert request.transport is not None
            request.transport.close()
        return response


@contextlib.asynccontextmanager
async def fake_hub(files: Mapping[str, bytes], **fields: Any) -> AsyncIterator[FakeHub]:
    """Serve a repository on loopback."""
    hub = FakeHub(dict(files), **fields)
    app = web.Application()
    app.router.add_get("/api/models/{org}/{name}/revision/{revision}", hub.info)
    app.router.add_get("/{org}/{name}/resolve/{revision}/{path:.+}", hub.resolve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    hub.port = runner.addresses[0][1]
    try:
        yield hub
    finally:
        await runner.cleanup()
