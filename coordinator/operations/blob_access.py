"""Which blobs an account may name: what it has sent, or can read in an object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from protos.domain.errors import InvalidRequest, TooLarge

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor
    from coordinator.operations.use_case import OperationsParts
    from protos.domain.resources import Adapter, Model, ModelFile

#: Files that an account has sent and that no version of its own names.
MAX_UNNAMED: Final = 10_000


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


async def check_stored_bytes(
    parts: OperationsParts, actor: Actor, sha256: bytes, size_bytes: int
) -> None:
    """Refuse an upload by which an account would take more of the disk than it may.

    Counted is what its versions name, and what it has sent and no version of its own names. Of
    that, what has been collected is forgotten first. Raises: TooLarge.
    """
    account_id = actor.account_id
    if actor.role is not None or not account_id:
        return
    proofs, most_bytes = parts.blob_proofs, parts.account_max_bytes
    named = _named_by(parts, account_id)
    for is_last in (False, True):
        sent = {one: size for one, size in proofs.sent_by(account_id).items() if one not in named}
        total_bytes = sum((named | sent | {sha256: size_bytes}).values())
        if total_bytes <= most_bytes and len(sent) < MAX_UNNAMED:
            return
        if is_last:
            break
        for one in sent:
            if await parts.blobs.size_bytes(one) is None:
                proofs.forget(account_id, one)
    what = (
        f"{total_bytes} bytes, {most_bytes} are allowed (blobs.account_max_bytes)"
        if total_bytes > most_bytes
        else f"{len(sent) + 1} files that no version names, {MAX_UNNAMED} are allowed"
    )
    raise TooLarge(
        f"account {account_id!r} would have {what}",
        "publish what was sent, or wait until it is deleted; operators can remove versions",
    )


def _named_by(parts: OperationsParts, account_id: str) -> dict[bytes, int]:
    """Return what the versions of an account name: digest -> bytes."""
    view = parts.store.view()
    rows: list[Model | Adapter] = [*view.models.values(), *view.adapters.values()]
    names = [row.name for row in rows if row.account_id == account_id]
    return {file.sha256: file.size_bytes for name in names for file in parts.store.manifest(name)}


def _readable(parts: OperationsParts, actor: Actor) -> set[bytes]:
    view = parts.store.view()
    rows: list[Model | Adapter] = [*view.models.values(), *view.adapters.values()]
    visible = [row.name for row in rows if actor.sees(row.account_id)]
    return {file.sha256 for name in visible for file in parts.store.manifest(name)}
