"""Models and adapters as the engines ask for them, from whole files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from protos.domain.resources import DesiredAdapter, DesiredReplica, ModelSource, Residency

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agent.artifacts.models import ModelStore

Held = DesiredReplica | DesiredAdapter


@dataclass(frozen=True, slots=True)
class PullProgress:
    """A pull: verified bytes of all, and why it does not go on."""

    verified_bytes: int
    total_bytes: int
    error: str = ""


class WholeModels:
    """The contract of an object store, on a ``ModelStore``: no peers, no eviction."""

    def __init__(self, models: ModelStore) -> None:
        self._models = models
        self._whole: set[Held] = set()

    def residency(self, held: Held) -> Residency:
        """Return where its files are; what was whole once stays so."""
        if held not in self._whole and self._models.is_complete(_as_model(held)):
            self._whole.add(held)
        return Residency.DISK if held in self._whole else Residency.ORIGIN

    def path_of(self, held: Held) -> Path:
        """Return its digest-named directory."""
        return self._models.path_of(_as_model(held))

    async def ensure(self, held: Held) -> Path:
        """Pull what is missing and return its directory."""
        path = await self._models.ensure(_as_model(held))
        self._whole.add(held)
        return path

    def hold(self, held: Held) -> None:
        """Nothing is evicted."""

    def release(self, held: Held) -> None:
        """Nothing is evicted."""

    def progress(self) -> Mapping[str, PullProgress]:
        """Return nothing: whole files report no progress."""
        return {}


def _as_model(held: Held) -> DesiredReplica:
    if isinstance(held, DesiredReplica):
        return held
    empty = DesiredReplica(held.adapter, ModelSource.MANAGED, (), 0)
    return replace(empty, files=held.files)
