"""The hub's requests one by one, as its clients send them, for what no client would send."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import aiohttp

from tests.support.hub import ACME, RunningHub


class HubClient:
    """One client with a key."""

    def __init__(self, hub: RunningHub, key: str = ACME) -> None:
        self._hub = hub
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def __aenter__(self) -> HubClient:
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._session.close()

    async def ask(
        self, method: str, path: str, body: object = None, **options: Any
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body of an answer."""
        headers = self._headers | options.pop("headers", {})
        url = path if path.startswith("http") else self._hub.endpoint + path
        text = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        data = io.BytesIO(text) if isinstance(text, bytes) else text
        async with self._session.request(
            method, url, data=data, headers=headers, allow_redirects=False, **options
        ) as response:
            return response.status, response.headers, await response.read()

    async def batch(self, repository: str, files: Mapping[str, bytes]) -> list[dict[str, Any]]:
        """Return what the server says of each file."""
        objects = [
            {"oid": hashlib.sha256(data).hexdigest(), "size": len(data)} for data in files.values()
        ]
        body = {"operation": "upload", "transfers": ["basic", "multipart"], "objects": objects}
        status, _, answer = await self.ask(
            "POST", f"/{repository}.git/info/lfs/objects/batch", body
        )
        assert status == 200, answer
        return json.loads(answer)["objects"]

    async def send(self, repository: str, files: Mapping[str, bytes]) -> None:
        """Upload what the server asks for."""
        by_oid = {hashlib.sha256(data).hexdigest(): data for data in files.values()}
        for one in await self.batch(repository, files):
            if "actions" in one:
                href = one["actions"]["upload"]["href"]
                status, _, answer = await self.ask("PUT", href, by_oid[one["oid"]])
                assert status == 200, answer

    async def commit(
        self, repository: str, operations: list[dict[str, Any]], revision: str = "main", **head: str
    ) -> tuple[int, dict[str, Any]]:
        """Commit operations; return the status and the answer."""
        lines = [{"key": "header", "value": {"summary": "s", "description": ""} | head}]
        body = b"\n".join(json.dumps(line).encode() for line in lines + operations)
        status, _, answer = await self.ask(
            "POST", f"/api/models/{repository}/commit/{revision}", body
        )
        return status, json.loads(answer)

    async def upload(
        self, repository: str, files: Mapping[str, bytes], revision: str = "main", **head: str
    ) -> tuple[int, dict[str, Any]]:
        """Upload and commit files; return the status and the answer of the commit."""
        await self.send(repository, files)
        return await self.commit(repository, list(map(lfs_file, files.items())), revision, **head)


def lfs_file(item: tuple[str, bytes]) -> dict[str, Any]:
    """Return the operation that adds an uploaded file."""
    path, data = item
    oid = hashlib.sha256(data).hexdigest()
    value = {"path": path, "algo": "sha256", "oid": oid, "size": len(data)}
    return {"key": "lfsFile", "value": value}
