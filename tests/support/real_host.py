"""Real engines below ``Replicas``, with models and adapters in folders of this host."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from agent.config import EngineConfig
from agent.core.engine_choice import ChoicePolicy
from agent.core.engine_status import EngineEndpoint
from agent.engine.driver import never_relayed
from agent.engine.fingerprints import Fingerprints
from agent.engine.host import HostEngines, HostPolicy
from agent.engine.slot_parts import SlotSettings
from agent.engines import engine_version, max_adapters, vllm_maker
from agent.replicas import Replicas
from protos.domain.resources import (
    DesiredAdapter,
    DesiredReplica,
    Hold,
    ModelFile,
    ModelSource,
    Residency,
)

Held = DesiredReplica | DesiredAdapter


def now_mono_ms() -> float:
    return time.monotonic() * 1_000


def files_of(folder: Path) -> tuple[ModelFile, ...]:
    """Return the manifest of a folder."""
    found = []
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        found.append(ModelFile(path.name, digest, path.stat().st_size))
    return tuple(found)


class FolderObjects:
    """The contract of the object store: everything is on disk, where it was made."""

    def __init__(self) -> None:
        self.folders: dict[str, Path] = {}

    def model(self, name: str, folder: Path, *, swap_key: bytes = b"s" * 32) -> DesiredReplica:
        self.folders[name] = folder
        files = files_of(folder)
        return DesiredReplica(
            name, ModelSource.MANAGED, files, 2_048, hold=Hold.ON_DEMAND, swap_key=swap_key
        )

    def adapter(self, name: str, model: str, folder: Path) -> DesiredAdapter:
        self.folders[name] = folder
        return DesiredAdapter(name, model, 8, files_of(folder))

    def residency(self, _held: Held) -> Residency:
        return Residency.DISK

    def path_of(self, held: Held) -> Path:
        return self.folders[held.adapter if isinstance(held, DesiredAdapter) else held.model]

    async def ensure(self, held: Held) -> Path:
        return self.path_of(held)

    def hold(self, held: Held) -> None: ...
    def release(self, held: Held) -> None: ...

    def progress(self) -> dict[str, Any]:
        return {}


class RealHost:
    """Replicas on real vLLM engines."""

    def __init__(
        self,
        environment: Path,
        state_dir: Path,
        *,
        adapters: int = 4,
        residence_ms: float = 0.0,
    ) -> None:
        self.objects = FolderObjects()
        self.state_dir = state_dir
        config = EngineConfig(
            kind="vllm",
            venv=str(environment),
            accelerator="cpu",
            max_adapters=adapters,
            max_adapter_rank=16,
        )
        fingerprints = Fingerprints(
            state_dir / "fingerprints", engine_version=engine_version(environment), device="cpu"
        )
        make = vllm_maker(
            config,
            state_dir=state_dir,
            environ={},
            now_mono_ms=now_mono_ms,
            draw=random.random,
            on_change=lambda _status: self.replicas.changed(),
            relayed_mono_ms=never_relayed,
        )
        self.engines = HostEngines(
            self.objects,
            make,
            SlotSettings(fingerprints, max_adapters(config), now_mono_ms, lambda: None),
            HostPolicy(choice=ChoicePolicy(min_residence_ms=residence_ms)),
        )
        self.replicas = Replicas(
            self.objects,
            engines=self.engines,
            external=None,
            on_change=lambda: None,
            now_mono_ms=now_mono_ms,
            draw=random.random,
        )

    @property
    def control(self):
        """What asks the only engine."""
        (slot,) = self.engines.inventory.slots.values()
        return slot.engine.control

    async def endpoint(self, model: str, adapter: str = "") -> EngineEndpoint:
        """Return where it is served, loading it if need be."""
        endpoint = self.replicas.endpoint_for(model, adapter)
        if endpoint is None:
            await self.replicas.make_resident(model, adapter)
            endpoint = self.replicas.endpoint_for(model, adapter)
        assert endpoint is not None
        return endpoint

    async def ask(
        self, model: str, adapter: str = "", *, prompt: str = "The river runs", tokens: int = 8
    ) -> list[int]:
        """Return the ids of a greedy answer, as a request gets it: loaded if need be."""
        endpoint = await self.endpoint(model, adapter)
        self.replicas.enter(endpoint)
        try:
            return await token_ids(endpoint, prompt, tokens)
        finally:
            self.replicas.leave(endpoint)


@asynccontextmanager
async def connected(endpoint: EngineEndpoint) -> AsyncIterator[aiohttp.ClientSession]:
    assert endpoint.uds_path is not None
    connector = aiohttp.UnixConnector(endpoint.uds_path)
    async with aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout()
    ) as session:
        yield session


def greedy(endpoint: EngineEndpoint, prompt: str, tokens: int) -> dict[str, Any]:
    return {
        "model": endpoint.model,
        "prompt": prompt,
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
    }


async def token_ids(endpoint: EngineEndpoint, prompt: str, tokens: int) -> list[int]:
    """Return the ids that the engine generates, greedily."""
    async with connected(endpoint) as session:
        body = greedy(endpoint, prompt, tokens)
        async with session.post("http://engine/v1/completions", json=body) as response:
            answer = await response.json()
    assert response.status == 200, answer
    ids: list[int] = answer["choices"][0]["token_ids"]
    return ids


async def first_token_ms(
    session: aiohttp.ClientSession, endpoint: EngineEndpoint, prompt: str
) -> float:
    """Return what a streamed request takes to its first token."""
    began_ms = now_mono_ms()
    body = greedy(endpoint, prompt, 1) | {"stream": True}
    took_ms = 0.0
    async with session.post("http://engine/v1/completions", json=body) as response:
        assert response.status == 200, await response.text()
        async for line in response.content:
            if not took_ms and line.startswith(b"data: {") and json.loads(line[6:])["choices"]:
                took_ms = now_mono_ms() - began_ms
    assert took_ms
    return took_ms
