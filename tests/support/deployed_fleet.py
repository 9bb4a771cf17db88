"""Deploys over a real store, plan and supervisor; agents report what a test lets them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.core.failure_detector import DetectorPolicy
from coordinator.core.fleet_figures import FleetCounters
from coordinator.core.node_orders import NodeCondition
from coordinator.core.table_builder import ReplicaReport
from coordinator.fleet.live import LiveNode, NodeReport, ReportedReplica
from coordinator.fleet.supervisor import FleetSupervisor
from coordinator.store import deployments, models, nodes, pops, publications
from protos.domain.hardware import NodeHardware
from protos.domain.resources import (
    Adapter,
    Hold,
    Model,
    ModelFile,
    ModelSource,
    Pop,
    ReplicaState,
    Residency,
    ResourceType,
    Runtime,
    Tier,
)
from tests.support.operations import OperatedFleet, actor, operated_fleet
from tests.support.stores import enrol, registration

if TYPE_CHECKING:
    from coordinator.operations.deploys import DeployStatus
    from coordinator.operations.operations import Operations
    from protos.domain.routing_table import TableVersion

ANA = actor()
GB = 1_000_000_000
#: One node in each of three POPs: an edge, a regional and a central one.
EU = Pop("FRA", Tier.REGIONAL, "EU", "Frankfurt", 50.1, 8.7)
NODES = {"gru-1": "GRU", "fra-1": "FRA", "iad-1": "IAD"}
HARDWARE = NodeHardware("cuda", 8 * GB, "0.10.2", 4, 32, 1)
FILES = (ModelFile("model.safetensors", b"w" * 32, 270_000_000),)


def model(name: str, *, size_bytes: int = 270_000_000, swap: bytes = b"", account: str = ""):
    """Return a managed model."""
    return Model(
        name,
        ModelSource.MANAGED,
        "llama",
        "xs",
        8_192,
        size_bytes,
        b"m" * 32,
        swap_key=swap,
        account_id=account,
    )


BASE, NEXT = model("acme/base@1"), model("acme/base@2")
HUGE = model("acme/huge@1", size_bytes=16 * GB)
LORA = Adapter("acme/lora@1", BASE.name, 8, 1_800_000, b"a" * 32)
WIDE = Adapter("acme/wide@1", BASE.name, 64, 9_000_000, b"a" * 32)
RUNTIMES = (Runtime("acme/fast@1"), Runtime("acme/amd@1", accelerators=("rocm",)))


class DeployedFleet:
    """Three nodes that hold what they are told once a test lets them."""

    def __init__(self, fleet: OperatedFleet, ops: Operations) -> None:
        self.fleet, self.ops, self.store = fleet, ops, fleet.store
        self.seen: list[str] = []
        #: Nodes of which nothing is reported.
        self.silent: set[str] = set()
        #: The version of the table that connected agents have acknowledged.
        self.held: dict[str, TableVersion] = {}
        self.restart()
        self.store.on_change(lambda *_: self.watch())

    def restart(self) -> None:
        """Begin anew, as a coordinator that has just started."""
        self.supervisor = FleetSupervisor(
            self.store,
            self.fleet.plan,
            self.fleet.memory,
            DetectorPolicy(),
            counters=FleetCounters(),
            now_mono_ms=lambda: self.fleet.mono_ms,
            now_unix_ms=self.fleet.clock,
            history_max_age_ms=1e9,
            held_by=lambda: self.held,
            live_of=self.fleet.live_node,
        )

    def watch(self) -> None:
        """Remember each model that the row of the deployment has named, in order."""
        row = self.store.view().deployments.get("acme/support")
        name = row.adapter or row.model if row else ""
        if not self.seen or self.seen[-1] != name:
            self.seen.append(name)

    async def pass_ms(self, duration_ms: float = 500.0) -> None:
        """Let time pass, and the supervisor make its passes."""
        self.fleet.mono_ms += duration_ms
        self.fleet.clock.unix_ms += int(duration_ms)
        for _ in range(3):
            await self.supervisor.step()

    def holds(self, node_id: str) -> dict[str, Hold]:
        """Return what a node was told to hold."""
        return {key: row.hold for key, row in self.fleet.plan.desired_of(node_id).items()}

    async def report(self, node_id: str, *replicas: ReportedReplica) -> None:
        """Have a node report these replicas, and the coordinator follow."""
        if node_id in self.silent:
            return
        told = tuple(
            ReplicaReport(one.model, one.state, one.generation, one.adapter, one.residency)
            for one in replicas
        )
        self.supervisor.status(node_id, told, {}, NodeCondition())
        self.fleet.nodes[node_id] = LiveNode(True, 0.1, NodeReport(replicas=replicas))
        await self.pass_ms()

    async def obey(self, *node_ids: str) -> None:
        """Have nodes report all that they are told: hot ones ready, others on disk."""
        for node_id in node_ids or NODES:
            told = []
            for key, hold in self.holds(node_id).items():
                name, _, adapter = key.partition("+")
                hot = hold is Hold.HOT
                told.append(
                    ReportedReplica(
                        name,
                        ReplicaState.READY if hot else ReplicaState.COLD,
                        1,
                        adapter=adapter,
                        residency=Residency.DEVICE if hot else Residency.DISK,
                    )
                )
            await self.report(node_id, *told)

    def acknowledge(self, *node_ids: str) -> None:
        """Have agents acknowledge the present table of deployments."""
        at = self.store.table(ResourceType.DEPLOYMENTS).at
        self.held |= dict.fromkeys(node_ids or NODES, at)

    async def show(self, name: str = "acme/support") -> DeployStatus:
        """Return a deployment's status."""
        return await self.ops.deploys.show(ANA, name)


def replica(name: str, state: ReplicaState, **fields: object) -> ReportedReplica:
    """Return what a node reports of a model."""
    return ReportedReplica(name, state, 1, **fields)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def deployed_fleet(
    folder: Path, hardware: Mapping[str, NodeHardware] | None = None
) -> AsyncIterator[DeployedFleet]:
    """Provide a fleet of three nodes without a deployment."""
    async with operated_fleet(folder) as (fleet, ops):
        store = fleet.store
        await store.write(deployments.remove("chat"))
        await store.write(pops.put(EU))
        await enrol(store, "fra-1", "FRA")
        for node_id in NODES:
            told = replace(registration(node_id), hardware=(hardware or {}).get(node_id, HARDWARE))
            await store.write(nodes.register(told))
        for one in (BASE, NEXT, HUGE):
            await store.write(models.register(one, FILES))
        for row in (LORA, WIDE, *RUNTIMES):
            await store.write(publications.publish(row, FILES if isinstance(row, Adapter) else ()))
        deployed = DeployedFleet(fleet, ops)
        for node_id in NODES:
            await deployed.report(node_id)
        yield deployed
