"""Objects to be pulled, and stores that pull them."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

from agent.artifacts.disk import ModelDisk
from agent.artifacts.files import FileStore
from agent.artifacts.means import Means
from agent.artifacts.objects import ObjectStore
from agent.artifacts.sources import NoPeers, Origin, Peers
from agent.clock import now_mono_ms, now_unix_ms
from agent.core.chunk_planner import PullPolicy
from agent.core.pull_budget import PullBudget
from protos.domain.fleet_view import FleetView
from protos.domain.pieces import PIECE_BYTES, piece_list_sha256
from protos.domain.resources import DesiredReplica, Hold, ModelFile, ModelSource

CONFIG = json.dumps({"architectures": ["LlamaForCausalLM"]}).encode()


def noise(size_bytes: int, seed: int = 0) -> bytes:
    """Return bytes that no two pieces share."""
    return random.Random(seed).randbytes(size_bytes)


def digests_of(data: bytes) -> list[bytes]:
    """Return the SHA-256 of each piece of ``data``."""
    return [
        hashlib.sha256(data[at : at + PIECE_BYTES]).digest()
        for at in range(0, len(data), PIECE_BYTES)
    ]


def file_of(path: str, data: bytes, *, pieces: bool = True) -> ModelFile:
    """Return ``data`` as a file of a manifest; without ``pieces`` as older coordinators do."""
    digest = hashlib.sha256(data).digest()
    listed = piece_list_sha256(digests_of(data)) if pieces else b""
    return ModelFile(path, digest, len(data), listed)


def model_of(
    *files: ModelFile, name: str = "acme/small@1", hold: Hold = Hold.HOT
) -> DesiredReplica:
    """Return the order to hold a model of ``files``."""
    return DesiredReplica(name, ModelSource.MANAGED, files, 2_048, hold)


def make_store(
    folder: Path,
    origin: Origin,
    *,
    peers: Peers | None = None,
    view: FleetView | None = None,
    quota_bytes: int = 0,
    policy: PullPolicy | None = None,
    bytes_per_s: int = 0,
) -> ObjectStore:
    """Return a node's store as the agent builds it, over ``folder``."""
    disk = ModelDisk(
        folder / "models",
        folder / "store" / "files",
        folder / "store" / "partial",
        quota_bytes,
        now_unix_ms,
    )
    disk.load()
    means = Means(
        origin,
        peers or NoPeers(),
        PullBudget(bytes_per_s, now_mono_ms()),
        now_mono_ms,
        random.Random(1).random,
        policy or PullPolicy(),
    )
    files = FileStore(folder / "store", origin.fetch, max_pulls=2)
    table = view or FleetView()
    return ObjectStore(disk, means, files, view=lambda: table, max_pulls=4)
