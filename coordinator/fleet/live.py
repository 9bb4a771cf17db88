"""Interfaces through which administration reads the live fleet; ``main`` passes them in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from protos.domain.resources import ResourceType
from protos.v1 import fleet_pb2

#: Ask one connected agent; the callee sets the query's id. Raises: LinkDown, DeadlineExceeded.
AskAgent = Callable[[str, fleet_pb2.Query], Awaitable[fleet_pb2.Answer]]
#: Push the current table of one type to every connected agent, forced; return how many.
ForceTable = Callable[[ResourceType], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class LiveNode:
    """The reports of one node since the coordinator started."""

    connected: bool
    last_status_age_s: float
    in_flight_requests: int = 0
    credentials_age_s: float = 0.0
    certificate_age_s: float = 0.0
    replicas: Sequence[fleet_pb2.ReplicaStatus] = ()
    have: Sequence[fleet_pb2.Have] = ()
    accelerators: Sequence[fleet_pb2.Accelerator] = ()
    faults: Sequence[fleet_pb2.AcceleratorFault] = ()
    engine_in_flight_requests: int = 0
    service: fleet_pb2.Service | None = None


class LiveFleet(Protocol):
    """The fast state of the fleet, which no database holds."""

    def live_node(self, node_id: str) -> LiveNode | None:
        """Return the state of ``node_id``, None if it has not reported."""
        ...
