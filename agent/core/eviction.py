"""Which objects leave a disk so that another one fits: the least recently used first. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object on disk; ``files`` are its files' sizes in bytes by digest.

    Objects may share files. A pinned one is hot, held by an engine, or being pulled.
    """

    key: str
    files: Mapping[bytes, int]
    used_unix_ms: float
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class EvictionPlan:
    """The keys of the objects to remove, and by how many bytes it still does not fit."""

    keys: tuple[str, ...]
    short_bytes: int


def used_bytes(objects: Iterable[StoredObject]) -> int:
    """Return what the objects take, a shared file counted once."""
    return sum({digest: size for one in objects for digest, size in one.files.items()}.values())


def plan_eviction(
    objects: Sequence[StoredObject], incoming: Mapping[bytes, int], room_bytes: int
) -> EvictionPlan:
    """Return what to remove so that ``incoming`` fits beside the rest.

    ``room_bytes`` is what all objects, with the incoming one, may take. Files that stay, or that
    another object keeps, free nothing. If it does not fit even so, nothing is removed.
    """
    users = Counter(digest for one in objects for digest in one.files)
    sizes = {digest: size for one in objects for digest, size in one.files.items()}
    total_bytes = sum({**sizes, **incoming}.values())
    over_bytes = total_bytes - room_bytes
    keys: list[str] = []
    for one in sorted(objects, key=lambda each: (each.used_unix_ms, each.key)):
        if over_bytes <= 0:
            break
        if one.pinned:
            continue
        freed_bytes = 0
        for digest, size in one.files.items():
            users[digest] -= 1
            if not users[digest] and digest not in incoming:
                freed_bytes += size
        if freed_bytes:
            keys.append(one.key)
            over_bytes -= freed_bytes
        # without effect alone, it may be what frees a file that a later one shares
        elif one.files:
            keys.append(one.key)
    if over_bytes > 0:
        return EvictionPlan((), over_bytes)
    return EvictionPlan(tuple(keys), 0)
