"""Use cases over a real store on disk, with a fleet of agents that answer as a test sets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.billing.billing import Billing
from coordinator.blobs.folder import FolderStore
from coordinator.ca.authority import CertificateAuthority
from coordinator.core.adoption import Release, Track
from coordinator.core.operators import Role
from coordinator.core.price_card import first_card
from coordinator.fleet.desired_rows import DesiredRows
from coordinator.fleet.live import LiveNode
from coordinator.fleet.memory import FleetMemory
from coordinator.fleet.peer_dialer import PeerDialer
from coordinator.fleet.placement_writer import PlacementWriter
from coordinator.operations.actor import Actor
from coordinator.operations.agents import (
    CanaryResult,
    ExplainedRoute,
    TraceFilter,
    TraceLine,
    TracePlace,
)
from coordinator.operations.operations import Operations, make_operations
from coordinator.operations.operator_certificates import OperatorCertificates
from coordinator.operations.refusals import RefusalRecorder
from coordinator.operations.use_case import OperationsParts
from coordinator.store import (
    accounts,
    adoption,
    deployments,
    keys,
    models,
    nodes,
    operators,
    pops,
    prices,
)
from coordinator.store.store import Store
from coordinator.usage.database import UsageDatabase
from coordinator.usage.exports import UsageExports
from coordinator.usage.ingest import Ingest
from coordinator.usage.key_uses import RecordedKeyUses
from protos.domain.customers import Account
from protos.domain.errors import NoReplica
from tests.support.billing_service import billing_of
from tests.support.certificates import p256_key, request_der
from tests.support.operator_listeners import operator
from tests.support.stores import (
    FILES,
    GRU,
    IAD,
    MODEL,
    SetClock,
    api_key,
    audited,
    deployment,
    enrol,
    registration,
)
from tests.support.upstream import COMMIT, UpstreamDouble

if TYPE_CHECKING:
    from coordinator.core.peer_dials import Dial
    from coordinator.operations.upstream import Upstream
    from protos.domain.errors import EdgeForgeError
    from protos.domain.resources import ResourceType
    from protos.domain.trace import Trace

CONNECTED = LiveNode(connected=True, last_status_age_s=0.1)
#: The node that is connected in ``fleet_of``.
NODE = "gru-1"
#: Its newest release is served already.
TRACK = Track(
    "hf://org/tracked@main", "acme/tracked", "", "operator/ana", 1, (Release(COMMIT, 1, 1, 1, 1),)
)
#: Of the operators in ``fleet_of``: an admin, ana, and a viewer, bo.
ANA_KEY = p256_key()


def actor(role: Role = Role.ADMIN, name: str = "ana") -> Actor:
    """Return an operator."""
    return Actor("operator", name, role, "192.0.2.7")


def line(number: int, **changes: object) -> TraceLine:
    """Return one trace of a list, later ones with a greater number."""
    fields: dict[str, object] = {
        "place": TracePlace(float(number), f"{number:032x}"),
        "trace_id": f"{number:032x}",
        "ingress_node_id": NODE,
        "began_unix_ms": number,
        "deployment": "chat",
        "node_id": NODE,
        "serving_tier": "edge",
        "billing_tier": "edge",
        "status": 200,
        "budget_ms": 80.0,
        "felt_ttft_ms": 40.0,
        "ended_ms": 90.0,
        "missed": False,
        "predicted_miss": False,
        "cost_nano_usd": 1,
        "clock_jumped": False,
        "client_gone": False,
    }
    return TraceLine(**(fields | changes))  # type: ignore[arg-type]


@dataclass(slots=True)
class AgentsDouble:
    """Agents that answer as a test sets; an error is raised."""

    standing: list[str] = field(default_factory=list)
    lines: dict[str, Sequence[TraceLine] | EdgeForgeError] = field(default_factory=dict)
    traces: dict[str, Trace] = field(default_factory=dict)
    #: By model or adapter; an error is raised.
    canaries: dict[str, CanaryResult | EdgeForgeError] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def resume(self, node_id: str) -> Sequence[str]:
        self.asked.append(node_id)
        return self.standing

    async def explain(
        self, node_id: str, deployment: str, *, budget_ms: float, prompt_tokens: int
    ) -> ExplainedRoute:
        self.asked.append(node_id)
        return ExplainedRoute(deployment, node_id, budget_ms, (), False, None, None, "")

    async def list_traces(self, node_id: str, asked: TraceFilter) -> Sequence[TraceLine]:
        self.asked.append(node_id)
        lines = self.lines.get(node_id, ())
        if isinstance(lines, Exception):
            raise lines
        return lines[: asked.limit]

    async def find_trace(self, node_id: str, trace_id: str) -> Trace | None:
        self.asked.append(node_id)
        return self.traces.get(trace_id)

    async def canary(
        self,
        node_id: str,
        model: str,
        *,
        adapter: str = "",
        prompt: str = "",
        max_tokens: int = 0,
    ) -> CanaryResult:
        self.asked.append(node_id)
        found = self.canaries.get(adapter or model)
        if isinstance(found, CanaryResult):
            return found
        raise found or NoReplica("no such engine")


@dataclass
class OperatedFleet:
    """A coordinator's state behind its use cases, and what they told the live fleet."""

    store: Store
    clock: SetClock
    authority: CertificateAuthority
    usage_db: UsageDatabase
    billing: Billing
    agents: AgentsDouble = field(default_factory=AgentsDouble)
    nodes: dict[str, LiveNode] = field(default_factory=dict)
    forced: list[ResourceType] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)
    ordered: list[str] = field(default_factory=list)
    operators_changed: list[str] = field(default_factory=list)
    loopback_listeners: tuple[str, ...] = ()
    mono_ms: float = 0.0
    blobs: FolderStore | None = None
    upstream: Upstream | None = None
    account_max_bytes: int = 1024**3
    memory: FleetMemory = field(default_factory=FleetMemory)

    def __post_init__(self) -> None:
        self.plan = PlacementWriter(
            self.store,
            DesiredRows(self.store, self.memory),
            self.memory,
            now_mono_ms=lambda: self.mono_ms,
            now_unix_ms=self.clock,
        )

    def live_node(self, node_id: str) -> LiveNode | None:
        return self.nodes.get(node_id)

    async def force_table(self, resource_type: ResourceType) -> int:
        self.forced.append(resource_type)
        return len(self.nodes)

    def operations(self, blobs: FolderStore) -> Operations:
        """Return the use cases over this fleet."""
        self.blobs = blobs
        return make_operations(
            OperationsParts(
                store=self.store,
                blobs=blobs,
                refusals=RefusalRecorder(self.store, lambda: self.mono_ms),
                live=self,
                agents=self.agents,
                force_table=self.force_table,
                dials=PeerDialer(
                    self.store,
                    connected=lambda: list(self.nodes),
                    dial=self._dial,
                    now_mono_ms=lambda: self.mono_ms,
                ),
                ca_sha256_hex="ca" * 32,
                enrolment_address="coordinator.example:7403",
                admin_address="coordinator.example:7402",
                loopback_listeners=self.loopback_listeners,
                operator_certificates=OperatorCertificates(self.store, self.authority, self.clock),
                now_unix_ms=self.clock,
                on_resumed=self.resumed.append,
                on_ordered=self.ordered.append,
                plan=self.plan,
                on_plan_changed=lambda: None,
                on_operator_changed=self.operators_changed.append,
                usage_db=self.usage_db,
                ingest=Ingest(self.usage_db),
                usage_exports=UsageExports(self.usage_db, blobs),
                key_uses=RecordedKeyUses(self.usage_db),
                billing=self.billing,
                upstream=self.upstream,
                account_max_bytes=self.account_max_bytes,
            )
        )

    async def _dial(self, order: Dial) -> str:
        return ""

    @property
    def admin(self) -> Actor:
        """An operator."""
        return actor()

    async def notes(self) -> list[tuple[str, str, str, str]]:
        """Return the audit, oldest first, behind the refusals of strangers."""
        entries = await audited(self.store, 1_000)
        entries += await audited(self.store, 1_000, strangers=True)
        notes = [entry.note for entry in reversed(entries)]
        return [(one.actor, one.action, one.subject, one.detail) for one in notes]


@contextlib.asynccontextmanager
async def operated_fleet(folder: Path) -> AsyncIterator[tuple[OperatedFleet, Operations]]:
    """A small fleet: two POPs, a node in each, a model, a deployment, an account and its key."""
    clock = SetClock()
    store = await Store.open(folder / "coordinator.db", now_unix_ms=clock)
    blobs = FolderStore.open(folder / "blobs", max_blob_bytes=1_000_000)
    authority = CertificateAuthority.create(folder / "ca", now_unix_ms=clock)
    await store.write(prices.begin(first_card("coordinator", clock())))
    await store.write(pops.put(GRU))
    await store.write(pops.put(IAD))
    for node_id, pop_id in ((NODE, "GRU"), ("iad-1", "IAD")):
        await enrol(store, node_id, pop_id)
        await store.write(nodes.register(registration(node_id)))
    await store.write(accounts.create(Account("acme")))
    await store.write(models.register(MODEL, FILES))
    await store.write(deployments.put(deployment(), [NODE], create_only=True))
    await store.write(keys.create(api_key("k-1"), clock()))
    for name, role in (("ana", Role.ADMIN), ("bo", Role.VIEWER)):
        issued = authority.issue_operator(name, request_der(ANA_KEY))
        await store.write(operators.put(operator(name, role, issued)))
    await store.write(adoption.add(TRACK))
    upstream = UpstreamDouble(folder / "upstream-double")
    usage_db = await UsageDatabase.open(folder / "usage.db", clock)
    billing = billing_of(usage_db, store, clock)
    await usage_db.write(
        lambda connection: connection.execute(
            "INSERT INTO quarantine VALUES"
            " (1, 'gru-1', '5', 1, 1, 'damaged', 'no reason', x'', 1, 'held', '', 0)"
        )
    )
    fleet = OperatedFleet(
        store, clock, authority, usage_db, billing, nodes={NODE: CONNECTED}, upstream=upstream
    )
    try:
        yield fleet, fleet.operations(blobs)
    finally:
        await usage_db.close()
        await store.close()
