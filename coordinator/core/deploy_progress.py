"""What a deployment, or a change of one, waits for: a line for each node, in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protos.domain.resources import Hold, ReplicaState, Residency

#: Lines that are said at once.
MAX_LINES = 20


@dataclass(frozen=True, slots=True)
class NodeProgress:
    """What one node has come to of what it is to hold. ``state`` None: it has reported none."""

    node_id: str
    name: str
    hold: Hold
    connected: bool
    alive: bool = True
    state: ReplicaState | None = None
    residency: Residency = Residency.ORIGIN
    pulled_bytes: int = 0
    total_bytes: int = 0
    error: str = ""
    #: Of a version that is prepared.
    is_next: bool = False
    is_adapter: bool = False
    generation: int = 0

    @property
    def serves(self) -> bool:
        """Whether a request is served there: at once, or once it has loaded the weights.

        What is to be hot and is not yet is being brought in, and counts when it is.
        """
        is_on_demand = self.state is ReplicaState.COLD and self.hold is not Hold.HOT
        return self.alive and (self.state is ReplicaState.READY or is_on_demand)

    @property
    def is_done(self) -> bool:
        """Whether it has come to what the plan asks of it."""
        if self.state is ReplicaState.READY:
            return True
        return self.hold is not Hold.HOT and self.state is ReplicaState.COLD and self.is_here

    @property
    def is_here(self) -> bool:
        """Whether the weights are on the node."""
        return self.residency in (Residency.DEVICE, Residency.HOST_MEMORY, Residency.DISK)


def waits_for(nodes: Sequence[NodeProgress], why_nowhere: str) -> list[str]:
    """Return what is missing until a version is where the plan wants it; empty: nothing.

    A node that is not connected is waited for only while no other serves.
    """
    asked = [one for one in nodes if one.hold is not Hold.ON_DEMAND]
    if not asked:
        if any(one.serves for one in nodes):
            return []
        if not nodes:
            return [why_nowhere]
        asked = list(nodes)
    one_is_done = any(one.is_done and one.alive for one in asked)
    lines = [
        _line(one)
        for one in asked
        if not one.is_done and not (one_is_done and not (one.connected and one.alive))
    ]
    more = len(lines) - MAX_LINES
    return lines if more <= 0 else [*lines[:MAX_LINES], f"and {more} more"]


def _line(one: NodeProgress) -> str:
    if not one.connected or not one.alive:
        return f"waiting for node {one.node_id}: it is not connected"
    if one.state is ReplicaState.FAILED:
        return f"failed at {one.node_id}: {one.error or 'the node gave no reason'}"
    # What a node has not given up yet it may say a reason of as well: a full disk, a lost origin.
    return _step(one) + (f": {one.error}" if one.error else "")


def _step(one: NodeProgress) -> str:
    at = f"at {one.node_id}"
    match one.state:
        case ReplicaState.PULLING:
            if one.total_bytes:
                return f"pulling {_of(one.pulled_bytes, one.total_bytes)} {at}"
            return f"pulling {one.name} {at}"
        case ReplicaState.STARTING:
            return f"loading adapter {one.name} {at}" if one.is_adapter else f"starting engine {at}"
        case ReplicaState.STOPPING:
            return f"draining the engine {at}"
        case ReplicaState.COLD if one.is_here:
            return f"loading {one.name} {at}"
        case ReplicaState.COLD:
            return f"waiting for node {one.node_id} to pull {one.name}"
        case _:
            return f"waiting for node {one.node_id} to begin with {one.name}"


def _of(done_bytes: int, total_bytes: int) -> str:
    """Return "120 of 269 MB", in the unit of the whole."""
    unit, size = ("GB", 1e9) if total_bytes >= 1e10 else ("MB", 1e6)
    if total_bytes < 1e6:
        unit, size = "kB", 1e3
    return f"{done_bytes / size:.0f} of {total_bytes / size:.0f} {unit}"
