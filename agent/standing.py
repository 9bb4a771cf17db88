"""Whether this node should take new requests, and why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from protos.domain.resources import NodeIntent

if TYPE_CHECKING:
    from protos.domain.fleet_view import FleetView


class Standing:
    """Reasons to drain, from four sides: its operator, the fleet's, the table, its own stop."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._listeners: list[Callable[[bool], None]] = []
        self._by_operator = False
        self._by_fleet = False
        self._removed = False
        self._stopping = False
        #: Whether the ports are open.
        self.serving = False

    def on_change(self, listener: Callable[[bool], None]) -> None:
        """Call ``listener`` with whether new requests are refused, whenever that may change."""
        self._listeners.append(listener)

    @property
    def own_reason(self) -> str:
        """Why this host itself wants no new requests: all that is reported to the coordinator.

        What the table says is left out: reported back, it would keep itself alive for ever.
        """
        if self._stopping:
            return "the agent is stopping"
        if self._by_operator:
            return "drained by this host's operator"
        return ""

    @property
    def reason(self) -> str:
        """Why new requests are refused; empty when they are not."""
        if own := self.own_reason:
            return own
        if self._removed:
            return "this node is no longer in the routing table"
        if self._by_fleet:
            return "drained by the fleet's operator"
        return ""

    @property
    def draining(self) -> bool:
        return bool(self.reason)

    @property
    def by_operator(self) -> bool:
        return self._by_operator

    @by_operator.setter
    def by_operator(self, drained: bool) -> None:
        self._by_operator = drained
        self._tell()

    @property
    def stopping(self) -> bool:
        return self._stopping

    @stopping.setter
    def stopping(self, stopping: bool) -> None:
        self._stopping = stopping
        self._tell()

    def look_at(self, view: FleetView) -> None:
        """Read what the table says of this node; an empty table says nothing."""
        node = view.nodes.get(self._node_id)
        self._removed = node is None and bool(view.nodes)
        self._by_fleet = node is not None and node.intent in (
            NodeIntent.DRAINING,
            NodeIntent.RETIRED,
        )
        self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener(self.draining)
