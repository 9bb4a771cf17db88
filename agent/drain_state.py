"""Whether this node accepts new requests, and the reason when it does not.

While the node drains, its engine accepts no new requests and finishes running ones. Clients that
still connect are served by other nodes, unless the whole host is drained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from agent.core.samples import Sample, Samples
from protos.domain.resources import NodeIntent

if TYPE_CHECKING:
    from agent.core.engine_status import EngineEndpoint
    from agent.loads import Residents
    from protos.domain.fleet_view import FleetView
    from protos.domain.load_term import ColdWay


_STOPPING = "the agent is stopping"
_BY_OPERATOR = "drained by this host's operator"


class DrainState:
    """Reasons to drain: the operator, accelerator health, the fleet, removal, a stop.

    ``out_of_fleet`` is what the coordinator said when it removed this node; empty while it has not.
    """

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._listeners: list[Callable[[bool], None]] = []
        self._by_operator = False
        self._by_health = ""
        self._by_fleet = ""
        #: What the table says of this node's intent; it repeats what this host itself reported.
        self._ordered = ""
        #: The last reason of this host's health, once that has ended.
        self._health_before = ""
        self._removed = False
        self._out_of_fleet = ""
        self._stopping = False
        #: Whether the ports are open.
        self.serving = False

    def on_change(self, listener: Callable[[bool], None]) -> None:
        """Call ``listener`` with ``refuses_clients`` whenever that may have changed."""
        self._listeners.append(listener)

    @property
    def own_reason(self) -> str:
        """Why this host itself drains; the only reason reported to the coordinator.

        The table's intent is left out: reported back, it would never end.
        """
        if self._stopping:
            return _STOPPING
        if self._by_operator:
            return _BY_OPERATOR
        return self._by_health

    @property
    def reason(self) -> str:
        """Why the engine accepts no new requests; empty when it does."""
        if own := self.own_reason:
            return own
        if self._out_of_fleet:
            return f"removed from the fleet: {self._out_of_fleet}"
        if self._removed:
            return "this node is no longer in the routing table"
        return self._by_fleet

    @property
    def refuses_clients(self) -> bool:
        """Whether clients are refused; otherwise other nodes serve them."""
        gone = self._removed or bool(self._out_of_fleet)
        return self._stopping or self._by_operator or gone

    @property
    def draining(self) -> bool:
        return bool(self.reason)

    @property
    def by_operator(self) -> bool:
        return self._by_operator

    @by_operator.setter
    def by_operator(self, drained: bool) -> None:
        self._by_operator = drained
        self._notify()

    @property
    def by_health(self) -> str:
        return self._by_health

    @by_health.setter
    def by_health(self, reason: str) -> None:
        self._health_before = "" if reason else self._by_health or self._health_before
        self._by_health = reason
        self._by_fleet = self._of_others()
        self._notify()

    @property
    def out_of_fleet(self) -> str:
        return self._out_of_fleet

    @out_of_fleet.setter
    def out_of_fleet(self, reason: str) -> None:
        self._out_of_fleet = reason
        self._notify()

    @property
    def stopping(self) -> bool:
        return self._stopping

    @stopping.setter
    def stopping(self, stopping: bool) -> None:
        self._stopping = stopping
        self._notify()

    def on_view_changed(self, view: FleetView) -> None:
        """Read this node's intent from the table; an empty table carries none."""
        node = view.nodes.get(self._node_id)
        self._removed = node is None and bool(view.nodes)
        self._ordered = ""
        if node is not None and node.intent in (NodeIntent.DRAINING, NodeIntent.RETIRED):
            self._ordered = node.intent_reason or f"{node.intent} by the fleet's operator"
        self._by_fleet = self._of_others()
        self._notify()

    def _of_others(self) -> str:
        """Return the order in the table, unless it repeats what this host said and says no longer.

        The coordinator may be away when this host is resumed: its table would drain it meanwhile.
        A fault of before a restart is not forgotten so.
        """
        if self._ordered in (_STOPPING, _BY_OPERATOR):
            return ""
        repeats = bool(self._ordered) and self._health_before.startswith(self._ordered)
        return "" if repeats else self._ordered

    def missing(self) -> Iterable[str]:
        """Yield closed ports and the reason to drain, if there is one."""
        if not self.serving:
            yield "open ports"
        if self.draining:
            yield self.reason

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield whether the node drains."""
        yield Sample("edgeforge_draining", "1 while new requests are refused.", self.draining)

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return whether the node drains, and why."""
        return {"draining": self.draining, "draining_reason": self.reason}

    def _notify(self) -> None:
        for listener in self._listeners:
            listener(self.refuses_clients)


class OpenEngines:
    """This node's engines as the gateway sees them: none while the node drains."""

    def __init__(self, engines: Residents, drain_state: DrainState) -> None:
        self._engines = engines
        self._drain_state = drain_state

    def endpoint_for(self, model: str, adapter: str = "") -> EngineEndpoint | None:
        """Return where ``model`` is served on this node, or None while it is not. Hot."""
        if self._drain_state.draining:
            return None
        return self._engines.endpoint_for(model, adapter)

    def is_resident(self, model: str, adapter: str = "") -> bool:
        """Implements ``OwnEngines``. Hot."""
        return self.endpoint_for(model, adapter) is not None

    def cold_way(self, model: str, adapter: str = "") -> ColdWay | None:
        """Implements ``OwnEngines``."""
        if self._drain_state.draining:
            return None
        return self._engines.cold_path(model, adapter)

    def enter(self, model: str, adapter: str = "") -> EngineEndpoint | None:
        """Implements ``OwnEngines``. Hot."""
        endpoint = self.endpoint_for(model, adapter)
        if endpoint is not None:
            self._engines.enter(endpoint)
        return endpoint

    def leave(self, endpoint: EngineEndpoint) -> None:
        """Implements ``OwnEngines``. Hot."""
        self._engines.leave(endpoint)
