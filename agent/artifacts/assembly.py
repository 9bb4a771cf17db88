"""Assembles the models and adapters of this host from the configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.artifacts.disk import ModelDisk
from agent.artifacts.files import FileStore
from agent.artifacts.means import Means
from agent.artifacts.objects import ObjectStore
from agent.artifacts.sources import NoPeers
from agent.clock import now_mono_ms, now_unix_ms
from agent.core.pull_budget import PullBudget

if TYPE_CHECKING:
    from agent.artifacts.sources import Origin
    from agent.config import AgentConfig
    from protos.domain.fleet_view import FleetView

_GIB = 1024**3


def make_objects(
    config: AgentConfig,
    origin: Origin,
    *,
    view: Callable[[], FleetView],
    draw: Callable[[], float],
) -> ObjectStore:
    """Return what is on this host's disk, read anew, and what pulls the rest from ``origin``."""
    limits, store = config.limits, config.state_dir / "store"
    disk = ModelDisk(
        config.state_dir / "models",
        store / "files",
        store / "partial",
        config.artifacts.quota_gib * _GIB,
        now_unix_ms,
    )
    disk.load()
    budget = PullBudget(limits.pull_bytes_per_s, now_mono_ms())
    return ObjectStore(
        disk,
        Means(origin, NoPeers(), budget, now_mono_ms, draw),
        FileStore(store, origin.fetch, max_pulls=limits.max_pulls),
        view=view,
        max_pulls=limits.max_pulls,
    )
