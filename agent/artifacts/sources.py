"""What a pull asks: other nodes, and the coordinator. Implemented in ``peers`` and ``link``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from protos.domain.errors import EdgeForgeError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from agent.core.chunk_planner import Rank

#: Takes a piece and its SHA-256, in any thread. Raises: WrongPiece, OSError.
Accept = Callable[[memoryview, bytes], None]


class DigestMismatch(EdgeForgeError):
    """The received bytes do not have the expected digest."""

    default_retryable = True


class WrongPiece(DigestMismatch):
    """A piece has another digest than its file's piece list says."""


class Origin(Protocol):
    """The coordinator's files. Every call raises EdgeForgeError when it fails."""

    def keep_open(self) -> AbstractAsyncContextManager[None]:
        """Keep the connection for several calls one after the other."""

    def fetch(
        self, sha256: bytes, offset_bytes: int, length_bytes: int = 0
    ) -> AsyncIterator[bytes]:
        """Yield the file's bytes from ``offset_bytes`` on, ``length_bytes`` of them; 0: all."""

    async def piece_list(self, sha256: bytes) -> bytes:
        """Return the file's piece list, unverified."""


class Peers(Protocol):
    """The other nodes of the table. Every call raises EdgeForgeError when it fails."""

    @property
    def here(self) -> str:
        """This node's id."""

    def candidates(self, name: str) -> Mapping[str, Rank]:
        """Return the nodes that may have pieces of the object ``name``, by the table."""

    async def pieces_of(self, node_id: str, name: str) -> Mapping[str, int]:
        """Return which pieces a node says it has: by the file's digest in hex, as bits."""

    async def piece_list(self, node_id: str, name: str, sha256: bytes) -> bytes:
        """Return the file's piece list, unverified."""

    async def fetch(
        self, node_id: str, name: str, sha256: bytes, index: int, size_bytes: int, accept: Accept
    ) -> None:
        """Fetch one piece of ``size_bytes`` and hand it to ``accept``."""


class NoPeers:
    """A node that knows no other one."""

    here = ""

    def candidates(self, name: str) -> Mapping[str, Rank]:
        return {}

    async def pieces_of(self, node_id: str, name: str) -> Mapping[str, int]:
        return {}

    async def piece_list(self, node_id: str, name: str, sha256: bytes) -> bytes:
        raise EdgeForgeError("no peers")

    async def fetch(
        self, node_id: str, name: str, sha256: bytes, index: int, size_bytes: int, accept: Accept
    ) -> None:
        raise EdgeForgeError("no peers")
