"""This node's engines, as placing and the life of a request see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from agent.core.engine_status import EngineEndpoint
    from protos.domain.load_term import ColdWay


class OwnEngines(Protocol):
    """What is in the engines of this node, and what would be loaded for a request."""

    def is_resident(self, model: str, adapter: str = "") -> bool:
        """Whether it can be asked for now. Hot."""

    def cold_way(self, model: str, adapter: str = "") -> ColdWay | None:
        """Return how it would get into an engine, None if it would not."""

    def enter(self, model: str, adapter: str = "") -> EngineEndpoint | None:
        """Return where it is served, and keep it there until ``leave``; None if it is not. Hot."""

    def leave(self, endpoint: EngineEndpoint) -> None:
        """Let go of what ``enter`` returned. Hot."""
