"""Whether this node should take new requests, and why not.

Draining closes its engine: nothing new starts there, and what runs may end. Clients that still
arrive are served elsewhere, unless the host itself is to be left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from protos.domain.resources import NodeIntent

if TYPE_CHECKING:
    from agent.core.engine_status import EngineEndpoint
    from protos.domain.fleet_view import FleetView


class DrainState:
    """Reasons to drain: its operator, its health, the fleet, the table, its own stop."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._listeners: list[Callable[[bool], None]] = []
        self._by_operator = False
        self._by_health = ""
        self._by_fleet = ""
        self._removed = False
        self._stopping = False
        #: Whether the ports are open.
        self.serving = False

    def on_change(self, listener: Callable[[bool], None]) -> None:
        """Call ``listener`` with whether clients are refused, whenever that may change."""
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
        return self._by_health

    @property
    def reason(self) -> str:
        """Why the engine takes nothing new; empty when it does."""
        if own := self.own_reason:
            return own
        if self._removed:
            return "this node is no longer in the routing table"
        return self._by_fleet

    @property
    def refuses_clients(self) -> bool:
        """Whether clients are turned away; else they are served elsewhere."""
        return self._stopping or self._by_operator or self._removed

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
    def by_health(self) -> str:
        return self._by_health

    @by_health.setter
    def by_health(self, reason: str) -> None:
        self._by_health = reason
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
        self._by_fleet = ""
        if node is not None and node.intent in (NodeIntent.DRAINING, NodeIntent.RETIRED):
            self._by_fleet = node.intent_reason or f"{node.intent} by the fleet's operator"
        self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener(self.refuses_clients)


class _Engines(Protocol):
    def endpoint_for(self, model: str) -> EngineEndpoint | None: ...


class OpenEngines:
    """This node's engines as the gateway may use them: none while the node drains."""

    def __init__(self, engines: _Engines, standing: DrainState) -> None:
        self._engines = engines
        self._standing = standing

    def endpoint_for(self, model: str) -> EngineEndpoint | None:
        """Return where ``model`` is served on this node, or None while it is not. Hot."""
        return None if self._standing.draining else self._engines.endpoint_for(model)
