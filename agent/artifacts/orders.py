"""What a node is ordered to hold: its name, its files, and whether they may be on a disk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from protos.domain.errors import InvalidRequest, StoreUnavailable
from protos.domain.manifest import MAX_FILE_BYTES, MAX_FILES, check_manifest, check_path
from protos.domain.pieces import PIECE_BYTES
from protos.domain.resources import DesiredAdapter, DesiredReplica, ReplicaState, Residency

if TYPE_CHECKING:
    from protos.domain.resources import ModelFile

Held = DesiredReplica | DesiredAdapter

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


@contextmanager
def disk_errors(name: str) -> Iterator[None]:
    """Translate what the file system says. Raises: StoreUnavailable."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(
            f"{name} cannot be put on this disk: {error.strerror or error}",
            "free space below the state folder, or mend its disk; it is tried again",
        ) from error


def name_of(held: Held) -> str:
    """Return the object's name."""
    return held.adapter if isinstance(held, DesiredAdapter) else held.model


def folder_of(name: str, digest: bytes) -> str:
    """Return the name of the folder of an object with this manifest."""
    return f"{_UNSAFE.sub('-', name)[:80]}-{digest.hex()[:16]}"


def in_pieces(file: ModelFile) -> bool:
    """Return whether the digests of a file's pieces are to be had."""
    return bool(file.pieces_sha256) or file.size_bytes <= PIECE_BYTES


def total_bytes(held: Held) -> int:
    return sum({one.sha256: one.size_bytes for one in held.files}.values())


def has_files(state: ReplicaState, residency: Residency) -> bool:
    if state is ReplicaState.READY:
        return True
    return state is ReplicaState.COLD and residency not in (Residency.PEER, Residency.ORIGIN)


def check_order(held: Held) -> None:
    """Refuse a manifest that may not be on a disk. Raises: InvalidRequest."""
    if isinstance(held, DesiredReplica):
        check_manifest(held.files)
        return
    if len({check_path(one.path) for one in held.files}) != len(held.files):
        raise InvalidRequest(f"{held.adapter}: a file is listed twice")
    if not 0 < len(held.files) <= MAX_FILES:
        raise InvalidRequest(f"{held.adapter} has {len(held.files)} files")
    for one in held.files:
        if len(one.sha256) != 32 or not 0 < one.size_bytes <= MAX_FILE_BYTES:
            raise InvalidRequest(f"{held.adapter}: {one.path!r} has no fit digest or size")
