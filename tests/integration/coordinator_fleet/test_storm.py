"""Many agents at once: the cost of their Hellos, and of a resynchronisation."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from typing import TYPE_CHECKING

from coordinator.ca.authority import CertificateAuthority
from coordinator.clock import now_unix_ms
from coordinator.store import pops
from coordinator.store.store import Store
from protos.domain.resources import Pop, ResourceType, Tier
from tests.support.certificates import p256_key, private_pem, request_der
from tests.support.coordinator_process import CoordinatorProcess
from tests.support.scripted_agent import NodeIdentity, ScriptedAgent
from tests.support.stores import enrol
from tests.support.waiting import wait_until_async

if TYPE_CHECKING:
    from pathlib import Path

AGENTS = 300
MIB = 1024 * 1024
#: Seen on two shared cores: 4 s, and 60 MiB above an idle coordinator.
STORM_S = 40.0
RESYNC_S = 20.0
MAX_GROWTH_BYTES = 150 * MIB


async def prepare(process: CoordinatorProcess) -> list[NodeIdentity]:
    """Enrol many nodes without waiting for the rate of the enrolment listener."""
    authority = CertificateAuthority.load(process.state_dir / "ca", now_unix_ms=now_unix_ms)
    key = p256_key()
    store = await Store.open(process.state_dir / "coordinator.db", now_unix_ms=now_unix_ms)
    await store.write(pops.put(Pop("GRU", Tier.EDGE, "BR", "Somewhere", 0.0, 0.0)))
    identities = []
    for index in range(AGENTS):
        node_id = f"gru-{index}"
        await enrol(store, node_id)
        certificate = authority.issue_node(node_id, request_der(key)).pem
        identities.append(
            NodeIdentity(node_id, private_pem(key), certificate, authority.bundle_pem)
        )
    await store.close()
    return identities


def figure(process: CoordinatorProcess, name: str) -> float:
    """Return one of the coordinator's metrics."""
    with urllib.request.urlopen(f"http://{process.address('http')}/metrics", timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f"edgeforge_coordinator_{name} "):
                return float(line.split()[1])
    raise AssertionError(f"no figure {name}")


async def test_many_hellos_at_once(tmp_path: Path) -> None:
    process = CoordinatorProcess(tmp_path)
    await asyncio.to_thread(process.init_here)
    identities = await prepare(process)
    await asyncio.to_thread(process.start)
    agents = [ScriptedAgent(process, identity) for identity in identities]

    def all_in_step() -> bool:
        first = agents[0].tables
        return (
            all(
                agent.tables[one].digest == first[one].digest
                and agent.tables[one].at == first[one].at
                for agent in agents
                for one in ResourceType
                if one is not ResourceType.DESIRED
            )
            and len(first[ResourceType.TOPOLOGY].rows) == AGENTS + 1
        )

    try:
        idle_bytes, began_s = process.rss_bytes(), time.monotonic()
        await asyncio.gather(*(agent.connect() for agent in agents))
        await wait_until_async(all_in_step, STORM_S, "all agents in step")
        print(f"first contact: {time.monotonic() - began_s:.1f} s, {process.cpu_s():.1f} s of CPU,")
        print(f"  {(process.rss_bytes() - idle_bytes) / MIB:.0f} MiB more,")
        print(f"  pushes made {figure(process, 'pushes_serialised_total'):.0f},")
        print(f"  sent {sum(agent.pushes for agent in agents)}")
        assert process.rss_bytes() - idle_bytes < MAX_GROWTH_BYTES
        # Serialised once for all: far fewer than were sent.
        assert figure(process, "pushes_serialised_total") < sum(a.pushes for a in agents) / 2

        await asyncio.to_thread(process.stop)
        await asyncio.gather(*(agent.disconnect() for agent in agents))
        await asyncio.to_thread(process.start)
        cpu_s, began_s = process.cpu_s(), time.monotonic()
        await asyncio.gather(*(agent.connect() for agent in agents))
        await wait_until_async(
            lambda: all(agent.received.beats for agent in agents), RESYNC_S, "all agents back"
        )
        print(
            f"resynchronised: {time.monotonic() - began_s:.1f} s, {process.cpu_s() - cpu_s:.1f} s"
        )
        assert sum(agent.pushes for agent in agents) == 0
        assert figure(process, "agents_connected") == AGENTS
        assert figure(process, "pushes_serialised_total") == 0
    finally:
        await asyncio.gather(*(agent.disconnect() for agent in agents))
        await asyncio.to_thread(process.stop)
