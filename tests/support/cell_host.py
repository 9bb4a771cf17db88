"""A node of a cell with the product's own replicas and object store, above scripted engines."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from agent.clock import now_mono_ms
from agent.core.engine_choice import ChoicePolicy
from agent.core.fingerprint import Take
from agent.engine.fingerprints import Fingerprints
from agent.engine.host import HostEngines, HostPolicy
from agent.engine.slot_parts import SlotSettings
from agent.replicas import Replicas
from protos.domain.resources import DesiredAdapter, DesiredReplica, Hold, ModelFile, ModelSource
from tests.support.fleets import MODEL
from tests.support.pulled_objects import CONFIG, file_of, make_store
from tests.support.scripted_vllm import ScriptedVllm, take_of


class CountingOrigin:
    """The coordinator's files, in memory; counts how often each is begun."""

    def __init__(self) -> None:
        self.files: dict[bytes, bytes] = {}
        self.fetched: Counter[bytes] = Counter()

    def add(self, path: str, data: bytes) -> ModelFile:
        """Return the file ``path`` with ``data``, which can be pulled from now on."""
        self.files[hashlib.sha256(data).digest()] = data
        return file_of(path, data, pieces=False)

    @contextlib.asynccontextmanager
    async def keep_open(self) -> AsyncIterator[None]:
        yield

    async def fetch(
        self, sha256: bytes, offset_bytes: int, length_bytes: int = 0
    ) -> AsyncIterator[bytes]:
        self.fetched[sha256] += offset_bytes == 0
        await asyncio.sleep(0.05)
        end = offset_bytes + length_bytes if length_bytes else None
        yield self.files[sha256][offset_bytes:end]

    async def piece_list(self, sha256: bytes) -> bytes:
        raise AssertionError("its files are of one piece")


class _Engine(ScriptedVllm):
    """Every adapter has an effect."""

    async def take(self, name: str, *, brief: bool = False) -> Take:
        return take_of(self.folder, self.adapters.get(name, self.folder))


class CellHost(Replicas):
    """Replicas of one engine that serves ``MODEL``; the adapter ``adapter`` is at the origin."""

    def __init__(self, folder: Path, adapter: str, weights_bytes: int) -> None:
        self.uds = str(folder / "engine.sock")
        self.origin = CountingOrigin()
        self.engine: ScriptedVllm | None = None
        base = (
            self.origin.add("config.json", CONFIG),
            self.origin.add("model.safetensors", b"base"),
        )
        weights = random.Random(1).randbytes(weights_bytes)
        self.adapter_file = self.origin.add("adapter_model.safetensors", weights)
        store = make_store(folder, self.origin)
        settings = SlotSettings(
            Fingerprints(folder / "fingerprints", engine_version="0.32.0", device="cpu"),
            2,
            now_mono_ms,
            lambda: None,
            drain_timeout_ms=5_000,
        )
        policy = HostPolicy(1, start_timeout_ms=5_000, choice=ChoicePolicy())
        engines = HostEngines(store, self._make, settings, policy)
        super().__init__(
            store,
            engines=engines,
            external=None,
            on_change=lambda: None,
            now_mono_ms=now_mono_ms,
            draw=lambda: 0.0,
        )
        models = {MODEL: DesiredReplica(MODEL, ModelSource.MANAGED, base, 2_048, Hold.ON_DEMAND)}
        adapters = {
            adapter: DesiredAdapter(adapter, MODEL, 8, (self.adapter_file,), Hold.ON_DEMAND)
        }
        store.set_desired(models, adapters)
        self.set_desired(models, adapters)

    def holds(self, served: str) -> bool:
        """Whether the engine has it under this name."""
        return self.engine is not None and served in {self.engine.model, *self.engine.adapters}

    @property
    def adapter_pulls(self) -> int:
        """How often the adapter's weights were pulled."""
        return self.origin.fetched[self.adapter_file.sha256]

    @property
    def adapter_loads(self) -> int:
        """How often an adapter was loaded into the engine."""
        assert self.engine is not None
        return len([call for call in self.engine.calls if call.startswith("load ")])

    def _make(self, desired: DesiredReplica, path: Path, _index: int) -> ScriptedVllm:
        self.engine = _Engine(desired.model, path, self.uds, self.changed)
        return self.engine
