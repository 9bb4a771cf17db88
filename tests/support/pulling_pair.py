"""Two nodes, each a process with a real store: one has a model, one pulls it from there."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from pathlib import Path

from tests.support.piece_nodes import PieceNode, Placed, Spec
from tests.support.pulled_objects import file_of
from tests.support.scripted_coordinator import ScriptedCoordinator


class PullingPair:
    """Pulls the files of ``model_dir`` over a peer port on loopback, again and again."""

    def __init__(self, folder: Path, model_dir: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._model_dir = model_dir
        self._origin = ScriptedCoordinator(folder)
        self._spec: Path | None = None
        self._has: PieceNode | None = None

    async def start(self) -> None:
        """Start the origin and the node that has the model."""
        self._origin.chunk_bytes = 1024**2
        await self._origin.start()
        files = []
        for path in sorted(self._model_dir.iterdir()):
            data = path.read_bytes()
            self._origin.blobs[hashlib.sha256(data).digest()] = data
            files.append(file_of(path.name, data))
        placed = [Placed("one"), Placed("puller")]
        spec = Spec(self._folder, placed, tuple(files), self._origin.address)
        self._spec = spec.write(self._origin)
        self._has = PieceNode(self._spec, "one")
        await asyncio.to_thread(self._has.answer)
        pulled = await asyncio.to_thread(self._has.ask, "pull")
        assert not pulled["failure"], pulled

    async def pull(self) -> tuple[float, Path]:
        """Return what a pull to an empty disk took in milliseconds, and where the model is."""
        assert self._spec is not None
        for name in ("store", "models"):
            shutil.rmtree(self._folder / "puller" / name, ignore_errors=True)
        puller = PieceNode(self._spec, "puller")
        try:
            await asyncio.to_thread(puller.answer)
            pulled = await asyncio.to_thread(puller.ask, "pull")
        finally:
            puller.kill()
        assert not pulled["failure"], pulled
        assert pulled["origin_bytes"] < pulled["peer_bytes"], pulled
        return pulled["took_s"] * 1_000, Path(pulled["path"])

    async def close(self) -> None:
        """End both."""
        if self._has is not None:
            self._has.kill()
        await self._origin.stop()
