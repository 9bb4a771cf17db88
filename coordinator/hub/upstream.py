"""Another hub, asked by a child process with limits; the token of each owner.

Tokens are files of ``<state>/upstream/tokens``, 0600 in folders 0700. The child gets its token on
standard input: no argument, environment or log holds it. Downloads wait in
``<state>/upstream/downloads/<digest>`` until they are imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from coordinator import clock
from coordinator.operations.upstream import (
    FetchedFile,
    Progress,
    Report,
    Snapshot,
    UpstreamRef,
)
from protos.domain.errors import InvalidRequest, LinkDown, Overloaded
from protos.domain.ids import check_person
from protos.domain.manifest import MAX_TOTAL_BYTES
from protos.host.files import make_private_folder, write_whole

_MODULE: Final = "coordinator.hub.upstream_child"
#: Downloads at once, and questions about heads.
MAX_FETCHES: Final = 2
MAX_HEADS: Final = 4
_HEAD_S: Final = 90.0
#: A download that brings nothing for so long is ended; it can go on later.
IDLE_S: Final = 180.0
_POLL_S: Final = 0.5
#: Downloads that nobody has continued are deleted after this.
STALE_S: Final = 7 * 24 * 3_600.0
_MAX_LINE_BYTES: Final = 4 * 1024**2
MAX_TOKEN_CHARS: Final = 500


Note = Callable[[dict[str, Any]], None]
Look = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class UpstreamPlace:
    """Where the other hub is. See ``[upstream]`` of the configuration."""

    endpoint: str
    private_endpoint: bool
    ca_file: str
    max_file_bytes: int
    idle_s: float = IDLE_S


class UpstreamHub:
    """Implements ``operations.upstream.Upstream``."""

    def __init__(self, place: UpstreamPlace, folder: Path) -> None:
        self._place = place
        self._folder = folder
        self._fetches = asyncio.Semaphore(MAX_FETCHES)
        self._heads = asyncio.Semaphore(MAX_HEADS)
        self._busy: set[str] = set()

    async def head(self, ref: UpstreamRef, owner: str) -> str:
        """Return the commit that a revision is. Raises: InvalidRequest, LinkDown."""
        async with self._heads:
            try:
                async with asyncio.timeout(_HEAD_S):
                    done = await self._run(self._job("head", ref, owner, ""), _ignore)
            except TimeoutError:
                raise LinkDown(f"the hub did not answer within {_HEAD_S:.0f} s") from None
        return str(done["sha"])

    @contextlib.asynccontextmanager
    async def fetched(
        self, ref: UpstreamRef, owner: str, report: Report
    ) -> AsyncIterator[Snapshot]:
        """Hold a download; see the interface."""
        key = hashlib.sha256(f"{self._place.endpoint}\n{owner}\n{ref}".encode()).hexdigest()[:32]
        if key in self._busy:
            raise Overloaded(f"{ref} is being imported already", "wait for that import")
        if self._fetches.locked():
            raise Overloaded(f"{MAX_FETCHES} imports are running", "import again later")
        self._busy.add(key)
        try:
            async with self._fetches:
                await asyncio.to_thread(self.remove_stale, clock.now_unix_ms())
                folder = self._folder / "downloads" / key
                for one in (self._folder, folder.parent, folder):
                    make_private_folder(one)
                yield await self._fetch(ref, owner, folder, report)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        finally:
            self._busy.discard(key)

    def set_token(self, owner: str, token: str) -> None:
        """Keep a token, or forget it. Raises: InvalidRequest."""
        path = self._token_path(owner)
        if not token:
            path.unlink(missing_ok=True)
            return
        if len(token) > MAX_TOKEN_CHARS or not token.isascii() or not token.isprintable():
            raise InvalidRequest("this is no token of a hub", "one line of printable characters")
        for folder in (self._folder, path.parent):
            make_private_folder(folder)
        write_whole(path, token.encode())

    def has_token(self, owner: str) -> bool:
        """Return whether a token is kept for an owner."""
        return self._token_path(owner).is_file()

    def remove_stale(self, now_unix_ms: int) -> None:
        """Delete downloads that nobody has continued for a week."""
        folder = self._folder / "downloads"
        for one in folder.iterdir() if folder.is_dir() else ():
            with contextlib.suppress(OSError):
                if one.name not in self._busy and (
                    one.stat().st_mtime < now_unix_ms / 1_000 - STALE_S
                ):
                    shutil.rmtree(one, ignore_errors=True)

    async def _fetch(self, ref: UpstreamRef, owner: str, folder: Path, report: Report) -> Snapshot:
        job = self._job("fetch", ref, owner, str(folder))
        total_bytes = 0
        left_out: list[str] = []

        def note(line: dict[str, Any]) -> None:
            nonlocal total_bytes
            if "total_bytes" in line:
                total_bytes = int(line["total_bytes"])
            left_out.extend(str(one) for one in line.get("left_out", ()))

        last, idle_s = -1, 0.0

        async def look() -> None:
            """Report how much has arrived; end a download that stands still."""
            nonlocal last, idle_s
            size = await asyncio.to_thread(_size_of, folder)
            report(Progress("downloading", min(size, total_bytes), total_bytes))
            idle_s = 0.0 if size != last else idle_s + _POLL_S
            last = size
            if idle_s >= self._place.idle_s:
                raise LinkDown(
                    f"the hub sent nothing for {self._place.idle_s:.0f} s",
                    "import again: it goes on where it stopped",
                )

        done = await self._run(job, note, look)
        files = tuple(
            FetchedFile(path, bytes.fromhex(sha256_hex), size_bytes, folder / path)
            for path, sha256_hex, size_bytes in done["files"]
        )
        return Snapshot(str(done["sha"]), str(done["licence"]), files, tuple(left_out))

    async def _run(self, job: bytes, note: Note, look: Look | None = None) -> dict[str, Any]:
        """Run the child and return what it has done. Raises: InvalidRequest, LinkDown."""
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", _MODULE),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=child_environment(self._place, self._folder),
            start_new_session=True,
            limit=_MAX_LINE_BYTES,
        )
        last: dict[str, Any] = {}
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            with contextlib.suppress(ConnectionError):
                child.stdin.write(job)
                await child.stdin.drain()
            child.stdin.close()
            async for line in _lines(child.stdout, look):
                with contextlib.suppress(orjson.JSONDecodeError):
                    last = orjson.loads(line)
                    note(last)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
        if "refused" in last:
            message, hint = str(last["refused"]), str(last.get("hint", ""))
            if message.startswith("the hub cannot be reached"):
                raise LinkDown(message, hint)
            raise InvalidRequest(message, hint)
        done = last.get("done")
        if not isinstance(done, dict):
            raise LinkDown(
                f"the import ended without a result (exit {child.returncode})",
                "import again: it goes on where it stopped",
            )
        return done

    def _job(self, action: str, ref: UpstreamRef, owner: str, folder: str) -> bytes:
        place = self._place
        return orjson.dumps(
            {
                "action": action,
                "endpoint": place.endpoint,
                "repository": ref.repository,
                "revision": ref.revision,
                "token": self._token_of(owner),
                "private_endpoint": place.private_endpoint,
                "ca_file": place.ca_file,
                "folder": folder,
                "max_file_bytes": place.max_file_bytes,
                "max_total_bytes": MAX_TOTAL_BYTES,
            }
        )

    def _token_of(self, owner: str) -> str:
        try:
            return self._token_path(owner).read_text(encoding="ascii")
        except FileNotFoundError:
            return ""

    def _token_path(self, owner: str) -> Path:
        return self._folder / "tokens" / check_person(owner)


async def _lines(output: asyncio.StreamReader, look: Look | None) -> AsyncIterator[bytes]:
    """Yield lines, and look between them. Raises: what ``look`` raises."""
    while True:
        try:
            async with asyncio.timeout(_POLL_S):
                line = await output.readline()
        except TimeoutError:
            if look is not None:
                await look()
            continue
        if not line:
            return
        yield line


def child_environment(place: UpstreamPlace, folder: Path) -> dict[str, str]:
    """Return the variables of the child: none of this process, so no proxy and no secret."""
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HF_ENDPOINT": place.endpoint,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "30",
        "HF_HUB_ETAG_TIMEOUT": "30",
    }


def _size_of(folder: Path) -> int:
    total_bytes = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total_bytes += path.stat().st_size if path.is_file() else 0
    return total_bytes


def _ignore(_line: dict[str, Any]) -> None:
    """Take a line of which nothing is wanted."""
