"""What the fleet last reported, and the interfaces through which use cases read it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from protos.domain.resources import Residency, ResourceType

if TYPE_CHECKING:
    from coordinator.core.claims import Claim
    from coordinator.core.push_session import Holding
    from protos.domain.resources import ReplicaState
    from protos.domain.service import Service

#: Push the current table of one type to every connected agent, forced; return how many.
ForceTable = Callable[[ResourceType], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class ReportedReplica:
    """A model or an adapter at a node; ``error`` is empty unless it failed."""

    model: str
    state: ReplicaState
    generation: int
    error: str = ""
    adapter: str = ""
    residency: Residency = Residency.DEVICE
    #: Verified, of ``total_bytes``.
    pulled_bytes: int = 0
    total_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ReportedDisk:
    """The disk of models on a host."""

    quota_bytes: int
    used_bytes: int
    pinned_bytes: int
    #: Empty: none.
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class ReportedUsage:
    """Records of usage on a host's disk; see UsageState of protos/v1/fleet.proto."""

    waiting: int
    oldest_s: float
    older_spools: int
    refused: int
    quarantined: int
    #: Why requests are refused or records are not delivered; empty: none.
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class ReportedColdStarts:
    """Cold starts of one path since an agent's start; where the weights were when each began."""

    path: str
    residency: Residency
    count: int
    p50_ms: float
    p99_ms: float
    ms_per_gb: float


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A node's reading of one accelerator; None: it does not report that figure."""

    id: str
    index: int
    name: str
    utilisation_ratio: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    clock_reasons: tuple[str, ...] = ()
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    lost: bool = False


@dataclass(frozen=True, slots=True)
class AcceleratorFault:
    """A fault of an accelerator; ``accelerator`` is empty for the reader's own."""

    detail: str
    accelerator: str = ""
    kind: str = ""
    fatal: bool = False
    code: int = 0
    active: bool = False
    latched: bool = False


@dataclass(frozen=True, slots=True)
class NodeReport:
    """A node's last status, as operators see it."""

    in_flight_requests: int = 0
    engine_in_flight_requests: int = 0
    credentials_age_s: float = 0.0
    certificate_age_s: float = 0.0
    #: By the coordinator's clock; 0 from agents that do not report it.
    certificate_remaining_s: float = 0.0
    #: The coordinator's clock minus the node's.
    clock_offset_ms: float = 0.0
    renewal_error: str = ""
    replicas: tuple[ReportedReplica, ...] = ()
    have: Mapping[ResourceType, Holding] = field(default_factory=dict)
    accelerators: tuple[Accelerator, ...] = ()
    faults: tuple[AcceleratorFault, ...] = ()
    service: Service | None = None
    disk: ReportedDisk | None = None
    cold_starts: tuple[ReportedColdStarts, ...] = ()
    #: Of its engine, 1 is full; None from agents that do not report it.
    fill_ratio: float | None = None
    #: None from agents that keep no records: what they serve is not billed.
    usage: ReportedUsage | None = None


#: Decodes a report when somebody reads it; statuses come every 2 s and are seldom read.
ReadReport = Callable[[], NodeReport]


@dataclass(frozen=True, slots=True)
class LiveNode:
    """One node since the coordinator started; an age below 0: connected, without a status yet."""

    connected: bool
    last_status_age_s: float
    report: NodeReport = NodeReport()
    #: The addresses of two hosts with this identity; empty: there is one.
    twin: str = ""
    #: What it claims without an order, or beyond what is possible.
    claims: tuple[Claim, ...] = ()


class LiveFleet(Protocol):
    """The fast state of the fleet, which no database holds."""

    def live_node(self, node_id: str) -> LiveNode | None:
        """Return the state of ``node_id``, None if it has not reported."""
        ...
