"""A host with scripted engines and an object store in memory: what ``Replicas`` stands on."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.core.engine_choice import ChoicePolicy
from agent.engine.fingerprints import Fingerprints
from agent.engine.host import HostEngines, HostPolicy
from agent.engine.slot_parts import SlotSettings
from agent.replicas import Replicas
from protos.domain.errors import EdgeForgeError, LinkDown
from protos.domain.manifest import manifest_sha256
from protos.domain.resources import (
    DesiredAdapter,
    DesiredReplica,
    Hold,
    ModelFile,
    ModelSource,
    Residency,
)
from tests.support.scripted_vllm import EFFECT, ScriptedVllm

KEY = b"k" * 32
BASE, TUNED, OTHER = "acme/base@1", "acme/tuned@1", "acme/other@1"


def a_model(name: str, *, hold: Hold = Hold.ON_DEMAND, key: bytes = KEY) -> DesiredReplica:
    file = ModelFile("model.safetensors", name.encode().ljust(32, b"m"), 1_000_000)
    return DesiredReplica(name, ModelSource.MANAGED, (file,), 2_048, hold=hold, swap_key=key)


def an_adapter(
    name: str, model: str = BASE, *, hold: Hold = Hold.ON_DEMAND, content: bytes = b"a"
) -> DesiredAdapter:
    digest = name.encode().ljust(32, content)
    return DesiredAdapter(
        name, model, 8, (ModelFile("adapter_model.safetensors", digest, 5_000),), hold
    )


class MemoryObjects:
    """The contract of the object store; everything is on disk unless it is ``far``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.far: set[str] = set()
        self.without_effect: set[str] = set()
        self.pulls: list[str] = []
        self.holds: dict[str, int] = {}
        self.pull_error: EdgeForgeError | None = None
        self.gate: asyncio.Event | None = None

    def residency(self, held) -> Residency:
        return Residency.ORIGIN if _name(held) in self.far else Residency.DISK

    def path_of(self, held) -> Path:
        path = (
            self.folder
            / f"{_name(held).replace('/', '-')}-{manifest_sha256(held.files).hex()[:16]}"
        )
        if _name(held) not in self.far:
            path.mkdir(parents=True, exist_ok=True)
            if _name(held) not in self.without_effect:
                (path / EFFECT).touch()
        return path

    async def ensure(self, held) -> Path:
        if _name(held) in self.far:
            self.pulls.append(_name(held))
            if self.gate is not None:
                await self.gate.wait()
            if self.pull_error is not None:
                raise self.pull_error
            self.far.discard(_name(held))
        return self.path_of(held)

    def hold(self, held) -> None:
        self.holds[_name(held)] = self.holds.get(_name(held), 0) + 1

    def release(self, held) -> None:
        self.holds[_name(held)] -= 1
        assert self.holds[_name(held)] >= 0

    def held(self) -> set[str]:
        return {name for name, count in self.holds.items() if count}

    def progress(self):
        return {}


def _name(held) -> str:
    return held.adapter if isinstance(held, DesiredAdapter) else held.model


class ScriptedHost:
    """Everything below a gateway, on a clock that tests move."""

    def __init__(
        self, folder: Path, *, max_engines: int = 1, max_adapters: int = 2, residence_ms: float = 0
    ) -> None:
        self.now_ms = 1_000.0
        self.made: list[ScriptedVllm] = []
        self.make_error: EdgeForgeError | None = None
        #: Engines become ready by themselves.
        self.ready_at_once = True
        self.changes = 0
        self.objects = MemoryObjects(folder / "objects")
        self.fingerprints = Fingerprints(
            folder / "fingerprints", engine_version="0.32.0", device="cpu"
        )
        settings = SlotSettings(
            self.fingerprints,
            max_adapters,
            lambda: self.now_ms,
            self._on_change,
            drain_timeout_ms=300,
        )
        policy = HostPolicy(
            max_engines,
            start_timeout_ms=2_000,
            choice=ChoicePolicy(min_residence_ms=residence_ms, hot_idle_ms=10_000),
        )
        self.engines = HostEngines(self.objects, self._make, settings, policy)
        self.replicas = Replicas(
            self.objects,
            engines=self.engines,
            external=None,
            on_change=self._on_change,
            now_mono_ms=lambda: self.now_ms,
            draw=lambda: 0.0,
        )

    def desire(self, *objects) -> None:
        models = {one.model: one for one in objects if isinstance(one, DesiredReplica)}
        adapters = {one.adapter: one for one in objects if isinstance(one, DesiredAdapter)}
        self.replicas.set_desired(models, adapters)

    @property
    def engine(self) -> ScriptedVllm:
        """The engine that was made last."""
        return self.made[-1]

    def state_of(self, name: str):
        """Return the reported line of a model or an adapter."""
        (line,) = (one for one in self.replicas.report() if name == (one.adapter or one.model))
        return line

    def _make(self, desired, path: Path, index: int) -> ScriptedVllm:
        if self.make_error is not None:
            raise self.make_error
        uds = f"/run/{index}.sock"
        engine = ScriptedVllm(desired.model, path, uds, self._observe)
        engine.ready_at_once = self.ready_at_once
        self.made.append(engine)
        return engine

    def _observe(self) -> None:
        self.replicas.changed()

    def _on_change(self) -> None:
        self.changes += 1


LINK_DOWN = LinkDown("the coordinator is away")
