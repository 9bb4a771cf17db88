"""Models and the files they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from coordinator.store import publications
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


def require(tx: Transaction, name: str) -> None:
    """Raises: NotFound."""
    if tx.get(ResourceType.DEPLOYMENTS, f"model/{name}") is None:
        raise NotFound(f"there is no model {name!r}", "`edgeforge model import PATH` adds one")
