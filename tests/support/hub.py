"""The hub's listener on loopback over a real registry, and the unmodified clients of the hub."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from coordinator.blobs.interface import BlobStore
from coordinator.hub.listener import HubListener, HubParts
from coordinator.hub.registry_catalogue import RegistryCatalogue
from coordinator.operations.member_secrets import MemberLogins
from coordinator.operations.operations import Operations
from coordinator.store import accounts, keys
from protos.domain.customers import Account
from tests.support.operations import OperatedFleet, operated_fleet
from tests.support.stores import api_key

#: Keys of the accounts acme and globex.
ACME, GLOBEX = "k-1", "k-2"
_CLIENT = Path(sys.executable).with_name("hf")
_TIMEOUT_S = 90


@dataclass(frozen=True, slots=True)
class Finished:
    """A client that has ended."""

    code: int
    output: str


class CutCatalogue(RegistryCatalogue):
    """A catalogue whose next download breaks off."""

    def __init__(self, operations: Operations, blobs: BlobStore) -> None:
        super().__init__(operations, blobs)
        #: Where each download began.
        self.offsets: list[int] = []
        #: Where the next one breaks off; None: it does not.
        self.cut_at_bytes: int | None = None

    async def read(
        self, sha256: bytes, offset_bytes: int, length_bytes: int
    ) -> AsyncGenerator[bytes, None]:
        self.offsets.append(offset_bytes)
        cut_at_bytes, self.cut_at_bytes = self.cut_at_bytes, None
        async for chunk in super().read(sha256, offset_bytes, length_bytes):
            if cut_at_bytes is not None:
                yield chunk[:cut_at_bytes]
                raise ConnectionResetError("cut off")
            yield chunk


@dataclass(frozen=True, slots=True)
class RunningHub:
    """A listener with a fleet behind it."""

    fleet: OperatedFleet
    operations: Operations
    listener: HubListener
    folder: Path

    catalogue: CutCatalogue

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.listener.port}"

    def environment(self, key: str = ACME) -> dict[str, str]:
        """Return the variables of a client, with a cache of its own."""
        return {
            "PATH": os.defpath,
            "HOME": str(self.folder),
            "HF_HOME": str(self.folder / f"home-{key}"),
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": key,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        }

    async def start(self, *arguments: str, key: str = ACME) -> asyncio.subprocess.Process:
        """Start ``hf``."""
        return await asyncio.create_subprocess_exec(
            _CLIENT,
            *arguments,
            env=self.environment(key),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )

    async def hf(self, *arguments: str, key: str = ACME) -> Finished:
        """Run ``hf`` to its end."""
        return await ended(await self.start(*arguments, key=key))

    async def python(self, program: str, *arguments: str, key: str = ACME) -> Finished:
        """Run a program that uses huggingface_hub to its end."""
        return await ended(await self.start_python(program, *arguments, key=key))

    async def start_python(
        self, program: str, *arguments: str, key: str = ACME
    ) -> asyncio.subprocess.Process:
        """Start a program that uses huggingface_hub."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program,
            *arguments,
            env=self.environment(key),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )


async def ended(process: asyncio.subprocess.Process) -> Finished:
    """Return what a client has said when it ends."""
    async with asyncio.timeout(_TIMEOUT_S):
        output, _ = await process.communicate()
    return Finished(process.returncode or 0, output.decode(errors="replace"))


@contextlib.asynccontextmanager
async def running_hub(folder: Path) -> AsyncIterator[RunningHub]:
    """A hub of the accounts acme and globex, each with a key."""
    (folder / "state").mkdir()
    async with operated_fleet(folder / "state") as (fleet, operations):
        await fleet.store.write(accounts.create(Account("globex")))
        await fleet.store.write(keys.create(api_key(GLOBEX, "globex"), fleet.clock()))
        assert fleet.blobs is not None
        catalogue = CutCatalogue(operations, fleet.blobs)
        parts = HubParts(
            catalogue=catalogue,
            keys=lambda: fleet.store.view().keys,
            secret=b"s" * 32,
            logins=MemberLogins(fleet.store, fleet.clock),
        )
        listener = HubListener(parts, "127.0.0.1", 0, max_connections=64)
        await listener.start()
        try:
            yield RunningHub(fleet, operations, listener, folder, catalogue)
        finally:
            await listener.close()


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files below ``folder`` and return it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
