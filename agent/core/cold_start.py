"""A cold start: how weights that are in no engine come into one, and what it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from protos.domain.load_term import ColdPath, ColdWay

if TYPE_CHECKING:
    from protos.domain.resources import Residency

__all__ = ["ColdPath", "ColdStart", "ColdWay", "Wanted"]


class Wanted(NamedTuple):
    """What a request needs in an engine: a model, and an adapter of it or an empty string."""

    model: str
    adapter: str = ""

    @property
    def name(self) -> str:
        """The adapter if there is one, else the model."""
        return self.adapter or self.model


@dataclass(frozen=True, slots=True)
class ColdStart:
    """One that has ended: ``residency`` is where the weights were when it began.

    ``pull_ms`` of ``took_ms`` were spent to get the files to this host's disk.
    """

    path: ColdPath
    residency: Residency
    weights_bytes: int
    took_ms: float
    pull_ms: float = 0.0

    @property
    def way(self) -> ColdWay:
        """By what it is learned."""
        return ColdWay(self.path, self.residency)
