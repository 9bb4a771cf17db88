"""The digests of files' pieces: from this disk, from another node, or from the coordinator."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from agent.artifacts.sources import WrongPiece
from protos.domain.errors import EdgeForgeError
from protos.domain.pieces import PIECE_BYTES, join_digests, piece_count, split_digests
from protos.host.files import write_whole

if TYPE_CHECKING:
    from agent.artifacts.sources import Origin, Peers
    from protos.domain.resources import ModelFile

#: Nodes asked for a piece list before the coordinator is, and how long each may take.
_MAX_PEERS = 4
_PEER_S = 0.5


async def digests_of(
    name: str, file: ModelFile, folder: Path, origin: Origin, peers: Peers
) -> list[bytes]:
    """Return the digests of a file's pieces, checked against its manifest.

    They are kept in ``folder``, for the next start and for other nodes. Raises: EdgeForgeError.
    """
    if file.size_bytes <= PIECE_BYTES:
        return [file.sha256]
    path = folder / file.sha256.hex()
    kept = await asyncio.to_thread(read_list, path)
    if kept is not None and _is_right(file, kept):
        return split_digests(kept)
    found = await _ask_peers(name, file, peers) or await origin.piece_list(file.sha256)
    if not _is_right(file, found):
        raise WrongPiece(
            f"the piece list of {file.path} is not the one its manifest names",
            "it is asked for again; if the coordinator sent it, import the object again",
        )
    await asyncio.to_thread(write_whole, path, found)
    return split_digests(found)


def read_list(path: Path) -> bytes | None:
    """Return a stored piece list, unverified; None if none is stored. Blocking."""
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return None


async def _ask_peers(name: str, file: ModelFile, peers: Peers) -> bytes:
    """Return the first right piece list that a node has; empty if none has one."""
    for node_id in list(peers.candidates(name))[:_MAX_PEERS]:
        with contextlib.suppress(EdgeForgeError, TimeoutError):
            async with asyncio.timeout(_PEER_S):
                found = await peers.piece_list(node_id, name, file.sha256)
            if _is_right(file, found):
                return found
    return b""


def _is_right(file: ModelFile, found: bytes) -> bool:
    return (
        hashlib.sha256(found).digest() == file.pieces_sha256
        and found == join_digests(split_digests(found))
        and len(split_digests(found)) == piece_count(file.size_bytes)
    )
