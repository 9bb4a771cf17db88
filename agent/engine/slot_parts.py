"""What an engine's slot is made of: its process, its weights, and what all slots share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from protos.domain.manifest import manifest_sha256

if TYPE_CHECKING:
    from pathlib import Path

    from agent.core.engine_status import EngineEndpoint, EngineStatus
    from agent.engine.control import Control
    from agent.engine.fingerprints import Fingerprints
    from protos.domain.resources import DesiredReplica


@dataclass(frozen=True, slots=True)
class Weights:
    """A model whose files are complete in ``path``."""

    desired: DesiredReplica
    path: Path

    @property
    def digest(self) -> str:
        """The manifest's digest, in hexadecimal."""
        return manifest_sha256(self.desired.files).hex()

    @property
    def tensors_digest(self) -> str:
        """Like ``digest``, of the files with tensors alone: a README does not change an answer."""
        tensors = [one for one in self.desired.files if one.path.endswith(".safetensors")]
        return manifest_sha256(tensors).hex()

    @property
    def args(self) -> tuple[str, ...]:
        """What the engine's arguments add to the key of a fingerprint."""
        runtime = self.desired.runtime
        return () if runtime is None else (*runtime.args, runtime.load_format)


class Engine(Protocol):
    """What runs a model: a vLLM child process."""

    @property
    def control(self) -> Control | None: ...
    @property
    def status(self) -> EngineStatus: ...
    @property
    def ready_endpoint(self) -> EngineEndpoint | None: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def use_model_dir(self, model_dir: Path) -> None: ...
    def restart(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SlotSettings:
    """What all engines of a host share."""

    fingerprints: Fingerprints
    max_adapters: int
    now_mono_ms: Callable[[], float]
    on_change: Callable[[], None]
    #: Given to the requests of the old model when weights are swapped.
    drain_timeout_ms: float = 30_000.0
