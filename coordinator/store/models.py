"""Models and the files they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from coordinator.store import publications
from coordinator.store.facts import Manifest
from protos.domain.errors import NotFound
from protos.domain.resources import ResourceType

if TYPE_CHECKING:
    from coordinator.core.publications import Publication
    from coordinator.store.transaction import Transaction, Write
    from protos.domain.resources import Model, ModelFile


def register(
    model: Model, files: Sequence[ModelFile], about: Publication | None = None
) -> Write[bool]:
    """Register a model; return whether it is new: the same again changes nothing.

    Conflict if the name has other content.
    """
    return publications.publish(model, files, about)


def set_pieces(model: str, files: Sequence[ModelFile]) -> Write[None]:
    """Fill in piece digests. Changes nothing if the model is gone or has other files."""

    def write(tx: Transaction) -> None:
        present = tx.fact(Manifest, model)
        if present is not None and _contents(present.files) == _contents(files):
            tx.put_fact(Manifest(model, tuple(files)))

    return write


def require(tx: Transaction, name: str) -> None:
    """Raises: NotFound."""
    if tx.get(ResourceType.DEPLOYMENTS, f"model/{name}") is None:
        raise NotFound(f"there is no model {name!r}", "`edgeforge model import PATH` adds one")


def _contents(files: Sequence[ModelFile]) -> list[tuple[str, bytes, int]]:
    return [(file.path, file.sha256, file.size_bytes) for file in files]
