"""Which blobs an account may name: what it has sent, or can read in an object."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from protos.domain.errors import Conflict, InvalidRequest

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor
    from coordinator.operations.use_case import OperationsParts
    from protos.domain.resources import Adapter, Model, ModelFile


def withheld(parts: OperationsParts, actor: Actor, sha256s: Sequence[bytes]) -> set[bytes]:
    """Return the digests that ``actor`` may not name, stored or not. Empty for an operator."""
    if actor.role is not None:
        return set()
    unknown = {one for one in sha256s if not parts.blob_proofs.holds(actor.account_id, one)}
    if unknown:
        unknown -= _readable(parts, actor)
    return unknown


def check_access(parts: OperationsParts, actor: Actor, files: Sequence[ModelFile]) -> None:
    """Refuse files whose bytes an account has not shown to have. Raises: InvalidRequest.

    In the words of files that are not stored, so that nobody learns what others keep.
    """
    unknown = withheld(parts, actor, [file.sha256 for file in files])
    if missing := [file.path for file in files if file.sha256 in unknown]:
        raise InvalidRequest(
            f"{len(missing)} files have not been uploaded: {', '.join(missing[:3])}",
            "run the import again: it sends only what is missing",
        )


async def check_sent(
    sha256: bytes, size_bytes: int, offset_bytes: int, data: AsyncIterator[bytes]
) -> None:
    """Read the whole of a blob that is stored already, as a proof. Raises: InvalidRequest."""
    if offset_bytes:
        raise Conflict("0 bytes have been received", "ask where the upload continues")
    digest, received_bytes = hashlib.sha256(), 0
    async for chunk in data:
        received_bytes += len(chunk)
        if received_bytes > size_bytes:
            raise InvalidRequest(f"more than the announced {size_bytes} bytes")
        await asyncio.to_thread(digest.update, chunk)
    if received_bytes != size_bytes or digest.digest() != sha256:
        raise InvalidRequest(
            f"the data is not that of {sha256.hex()}", "read the file again and retry"
        )


def _readable(parts: OperationsParts, actor: Actor) -> set[bytes]:
    view = parts.store.view()
    rows: list[Model | Adapter] = [*view.models.values(), *view.adapters.values()]
    visible = [row.name for row in rows if actor.sees(row.account_id)]
    return {file.sha256 for name in visible for file in parts.store.manifest(name)}
