"""Versions of the registry's objects: who published them, in which order, and which is the latest.

A version never changes, and its name is not used again for other content once it is removed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace
from typing import Final

from protos.domain.object_names import ObjectKind, ObjectRef, repository_of
from protos.domain.resources import Adapter, Model, Runtime

#: Versions of one ``owner/name``, removed ones too.
MAX_VERSIONS: Final = 1_000
#: Versions of all kinds that are there.
MAX_OBJECTS: Final = 10_000
#: Names of one account, removed ones too, since they stay taken.
MAX_ACCOUNT_NAMES: Final = 5_000

RegistryRow = Model | Adapter | Runtime


@dataclass(frozen=True, slots=True)
class Publication:
    """What is known of a version beside its row.

    ``order`` counts the versions of an ``owner/name`` as they were published. ``source`` is where
    its content came from, such as ``hf://org/repo@rev``; ``ported_from`` names the adapter that it
    was ported from, and ``comparison`` says how its answers compared. ``removed_unix_ms`` 0: it is
    there.
    """

    name: str
    kind: ObjectKind
    content_sha256: bytes
    published_by: str = ""
    account_id: str = ""
    source: str = ""
    licence: str = ""
    ported_from: str = ""
    comparison: str = ""
    order: int = 0
    published_unix_ms: int = 0
    removed_unix_ms: int = 0

    @property
    def repository(self) -> str:
        """``owner/name``"""
        return repository_of(self.name)


def kind_of(row: RegistryRow) -> ObjectKind:
    """Return the kind of an object."""
    match row:
        case Model():
            return ObjectKind.MODEL
        case Adapter():
            return ObjectKind.ADAPTER
        case Runtime():
            return ObjectKind.RUNTIME


def content_sha256(row: RegistryRow) -> bytes:
    """Return what a version is: two publications of a name are the same if this is.

    Not of who owns it, nor of what follows from its files.
    """
    match row:
        case Model():
            parts: tuple[object, ...] = (
                row.source.value,
                row.size_class,
                row.context_tokens,
                row.manifest_sha256.hex(),
            )
        case Adapter():
            parts = (row.model, row.manifest_sha256.hex())
        case Runtime():
            parts = astuple(replace(row, name="", account_id=""))
    return hashlib.sha256(json.dumps([kind_of(row), *parts]).encode()).digest()


def revision_digest(row: RegistryRow) -> bytes:
    """Return the digest that an object's revision is cut from; empty for an external model."""
    return content_sha256(row) if isinstance(row, Runtime) else row.manifest_sha256


def latest_of(publications: Iterable[Publication]) -> Publication | None:
    """Return the version that was published last and is still there; None without any."""
    present = (one for one in publications if not one.removed_unix_ms)
    return max(present, key=lambda one: (one.order, one.name), default=None)


def find(publications: Iterable[Publication], ref: ObjectRef) -> Publication | None:
    """Return the version that a reference means, None if there is none."""
    versions = [
        one for one in publications if one.repository == ref.repository and not one.removed_unix_ms
    ]
    if not ref.version:
        return latest_of(versions)
    name = f"{ref.repository}@{ref.version}"
    return next((one for one in versions if one.name == name), None)
