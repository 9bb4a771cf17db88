"""Node health as all agents see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from protos.domain.resources import Node, NodeHealth, NodeIntent, ResourceType
from tests.integration.coordinator_fleet.conftest import FAST_HEALTH
from tests.support.scripted_agent import ScriptedAgent
from tests.support.waiting import wait_until_async

if TYPE_CHECKING:
    from tests.support.coordinator_process import CoordinatorProcess, Operator

TIMEOUT_S = 30.0

pytestmark = pytest.mark.parametrize("coordinator", [FAST_HEALTH], indirect=True)


def node_of(agent: ScriptedAgent, node_id: str) -> Node | None:
    found = agent.rows(ResourceType.TOPOLOGY).get(f"node/{node_id}")
    return found if isinstance(found, Node) else None


async def until_health(agent: ScriptedAgent, node_id: str, health: NodeHealth, **status) -> None:
    """Keep the agent reporting until its table shows that health."""
    agent.keep_reporting(**status)

    def shown() -> bool:
        node = node_of(agent, node_id)
        return node is not None and node.health is health

    await wait_until_async(shown, TIMEOUT_S, f"{node_id} {health}")


async def test_a_silent_node_is_suspect_then_dead_and_a_late_status_revives_it(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    quiet = ScriptedAgent(coordinator, await operator.enrol("gru-1"))
    async with ScriptedAgent(coordinator, await operator.enrol("gru-2")) as witness, quiet:
        await until_health(witness, "gru-1", NodeHealth.SUSPECT)
        await until_health(witness, "gru-1", NodeHealth.DEAD)
        await until_health(witness, "gru-2", NodeHealth.READY)
        assert node_of(witness, "gru-1").health is NodeHealth.DEAD
        quiet.send_status()
        await until_health(witness, "gru-1", NodeHealth.READY)


async def test_a_peers_failed_probe_makes_a_suspect_node_unroutable(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    quiet = ScriptedAgent(coordinator, await operator.enrol("gru-1"))
    async with ScriptedAgent(coordinator, await operator.enrol("gru-2")) as witness, quiet:
        unreachable = [{"node_id": "gru-1", "reachable": False}]
        await until_health(witness, "gru-1", NodeHealth.UNROUTABLE, peers=unreachable)


async def test_draining_is_pushed_to_all_agents_and_withdrawn(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    async with ScriptedAgent(coordinator, await operator.enrol("gru-1")) as agent:
        for draining, intent in ((True, NodeIntent.DRAINING), (False, NodeIntent.ACTIVE)):
            agent.keep_reporting(draining=draining)

            def shown(intent: NodeIntent = intent) -> bool:
                node = node_of(agent, "gru-1")
                return node is not None and node.intent is intent

            await wait_until_async(shown, TIMEOUT_S, intent)


async def test_a_restart_of_the_coordinator_changes_no_health(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    agent = ScriptedAgent(coordinator, await operator.enrol("gru-1"))
    await agent.connect()
    await until_health(agent, "gru-1", NodeHealth.READY)
    coordinator.stop()
    await agent.disconnect()
    coordinator.start()
    await agent.connect()
    agent.keep_reporting()
    await wait_until_async(lambda: agent.received.beats >= 3, TIMEOUT_S, "three beats")
    assert agent.pushes == 0
    await agent.disconnect()
