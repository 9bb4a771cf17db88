"""The coordinator's counters and gauges about its fleet, for the metrics page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class FleetCounters:
    """Totals since the start of the process. Each is written by one part only."""

    streams_opened: int = 0
    streams_refused: int = 0
    streams_replaced: int = 0
    statuses: int = 0
    snapshots_sent: int = 0
    deltas_sent: int = 0
    push_bytes: int = 0
    #: Times that rows were serialised; far below the pushes sent when many agents share one.
    pushes_serialised: int = 0
    acks: int = 0
    #: reason -> refused pushes
    nacks: dict[str, int] = field(default_factory=dict)
    push_timeouts: int = 0
    questions: int = 0
    questions_failed: int = 0
    blob_bytes: int = 0
    blobs_refused: int = 0
    #: Blobs that no manifest named, deleted; and their bytes, with those of unfinished uploads.
    blobs_collected: int = 0
    collected_bytes: int = 0
    handshakes_refused: int = 0
    alarms: int = 0
    #: Replicas that nodes reported without an order.
    unordered_replicas: int = 0
    #: Passes of the supervisor whose writes failed.
    passes_deferred: int = 0


@dataclass(frozen=True, slots=True)
class FleetGauges:
    """The fleet at one moment."""

    agents_connected: int
    #: health -> listed nodes
    nodes: Mapping[str, int]
    frozen: bool
    unplaced: int
    #: Listed nodes whose peer address another node could not dial.
    peers_unreachable: int
    #: Nodes whose identity a second host uses.
    twins: int
    store_available: bool
    usage_available: bool
    epoch: int
    #: resource type -> version and number of rows of its shared table
    tables: Mapping[str, tuple[int, int]]
