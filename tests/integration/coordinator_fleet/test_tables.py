"""How tables reach an agent: snapshots, deltas, refusals, restarts."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from protos.domain.customers import ApiKey, ForeignKey
from protos.domain.resources import Model, Node, ResourceType
from protos.domain.routing_table import RefusalReason, digest_from_bytes
from protos.v1 import admin_pb2, residency_pb2, resources_pb2
from tests.support.scripted_agent import ScriptedAgent
from tests.support.waiting import wait_until_async

if TYPE_CHECKING:
    from tests.support.coordinator_process import CoordinatorProcess, Operator

TIMEOUT_S = 30.0
#: No silence of an agent is so long that its health, and with it a table, changes.
PATIENT = pytest.mark.parametrize(
    "coordinator", ["[health]\nstatus_interval_ms = 60000\nlease_ms = 600000\n"], indirect=True
)


async def until(condition, what: str) -> None:
    await wait_until_async(condition, TIMEOUT_S, what)


async def in_step(operator: Operator, agent: ScriptedAgent) -> None:
    """Wait until the agent holds every table as the coordinator does.

    It reports from then on, since a silent agent becomes suspect, which changes a table.
    """
    agent.keep_reporting()

    async def same() -> bool:
        info = await operator.node(agent.identity.node_id)
        assert info is not None
        current = {one.type: (one.epoch, one.version, one.digest) for one in info.current}
        held = {one.type: (one.epoch, one.version, one.digest) for one in agent.hello().have}
        return current == held

    await until(same, f"{agent.identity.node_id} in step")


async def create_account(operator: Operator, name: str) -> None:
    await operator.admin.CreateAccount(admin_pb2.CreateAccountRequest(id=name))


async def test_a_new_agent_gets_a_snapshot_of_every_table(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    async with ScriptedAgent(coordinator, await operator.enrol("gru-1")) as agent:
        await until(lambda: "node/gru-1" in agent.rows(ResourceType.TOPOLOGY), "its own row")
        await in_step(operator, agent)
        assert set(agent.received.snapshots) == set(ResourceType)
        node = agent.rows(ResourceType.TOPOLOGY)["node/gru-1"]
        assert isinstance(node, Node)
        assert (node.peer_host, node.peer_port, node.pop_id) == ("127.0.0.1", 7443, "GRU")
        await until(lambda: agent.received.beats >= 2, "two beats")


@PATIENT
async def test_a_change_travels_as_a_delta(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    # Enough rows that a delta is smaller than the table.
    for name in ("one", "two", "three"):
        await create_account(operator, name)
    async with ScriptedAgent(coordinator, await operator.enrol("gru-1")) as agent:
        await in_step(operator, agent)
        agent.forget()
        await create_account(operator, "four")
        await until(lambda: "account/four" in agent.rows(ResourceType.CREDENTIALS), "the row")
        assert agent.received.deltas == [ResourceType.CREDENTIALS]
        assert agent.received.snapshots == []
        await in_step(operator, agent)


@PATIENT
async def test_a_gap_is_repaired_by_a_snapshot(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    for name in ("one", "two"):
        await create_account(operator, name)
    async with ScriptedAgent(coordinator, await operator.enrol("gru-1")) as agent:
        await in_step(operator, agent)
        agent.forget()
        agent.refusals[ResourceType.CREDENTIALS] = [RefusalReason.GAP]
        await create_account(operator, "three")
        await until(lambda: "account/three" in agent.rows(ResourceType.CREDENTIALS), "the row")
        assert agent.received.deltas == [ResourceType.CREDENTIALS]
        assert agent.received.snapshots == [ResourceType.CREDENTIALS]


@PATIENT
async def test_a_refused_version_is_not_sent_again_until_forced(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    for name in ("one", "two"):
        await create_account(operator, name)
    async with ScriptedAgent(coordinator, await operator.enrol("gru-1")) as agent:
        await in_step(operator, agent)
        agent.refusals[ResourceType.CREDENTIALS] = [RefusalReason.SHRUNK]
        pushed = agent.pushes
        await create_account(operator, "three")

        async def alarmed() -> bool:
            return ("coordinator", "alarm.table_refused", "node/gru-1") in await operator.audit()

        await until(alarmed, "the alarm in the audit")
        beats = agent.received.beats
        await until(lambda: agent.received.beats >= beats + 2, "time for a mistaken second push")
        assert agent.pushes == pushed + 1
        forced = await operator.admin.ForceTable(
            admin_pb2.ForceTableRequest(type=resources_pb2.RESOURCE_TYPE_CREDENTIALS)
        )
        assert forced.agents == 1
        await in_step(operator, agent)
        assert agent.received.forced == [ResourceType.CREDENTIALS]


@PATIENT
async def test_a_restart_keeps_versions_and_sends_nothing_again(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    await create_account(operator, "one")
    agent = ScriptedAgent(coordinator, await operator.enrol("gru-1"))
    await agent.connect()
    await in_step(operator, agent)
    before = agent.hello().have
    coordinator.stop(signal.SIGKILL)
    await agent.ended.wait()
    await agent.disconnect()
    coordinator.start()
    await agent.connect()
    await until(lambda: agent.received.beats >= 3, "three beats")
    assert agent.pushes == 0
    assert list(agent.hello().have) == list(before)
    await in_step(operator, agent)
    await agent.disconnect()


@PATIENT
async def test_changes_during_a_disconnection_arrive_as_a_delta(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    for name in ("one", "two", "three"):
        await create_account(operator, name)
    agent = ScriptedAgent(coordinator, await operator.enrol("gru-1"))
    await agent.connect()
    await in_step(operator, agent)
    await agent.disconnect()
    await create_account(operator, "four")
    await agent.connect()
    await in_step(operator, agent)
    assert agent.received.snapshots == []
    assert agent.received.deltas == [ResourceType.CREDENTIALS]
    await agent.disconnect()


@PATIENT
async def test_an_agent_ahead_of_a_restored_database_gets_no_push(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    await create_account(operator, "one")
    agent = ScriptedAgent(coordinator, await operator.enrol("gru-1"))
    await agent.connect()
    await in_step(operator, agent)
    await agent.disconnect()
    hello = agent.hello()
    for have in hello.have:
        if have.type == resources_pb2.RESOURCE_TYPE_CREDENTIALS:
            have.version += 1_000
    await agent.connect(hello)

    async def alarmed() -> bool:
        return ("coordinator", "alarm.agent_ahead", "node/gru-1") in await operator.audit()

    await until(alarmed, "the alarm in the audit")
    assert agent.pushes == 0
    await agent.disconnect()


async def test_a_restored_backup_reaches_every_agent_by_its_epoch(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    agent = ScriptedAgent(coordinator, await operator.enrol("gru-1"))
    await agent.connect()
    await in_step(operator, agent)
    await agent.disconnect()
    coordinator.stop()
    backup = coordinator.folder / "backup.db"
    backup.write_bytes((coordinator.state_dir / "coordinator.db").read_bytes())
    coordinator.start()
    await create_account(operator, "later")
    await agent.connect()
    await in_step(operator, agent)
    await agent.disconnect()
    coordinator.stop()
    restored = coordinator.command("restore", str(backup))
    assert restored.returncode == 0, restored.stderr
    coordinator.start()
    await agent.connect()
    await in_step(operator, agent)
    assert "account/later" not in agent.rows(ResourceType.CREDENTIALS)
    assert all(table.at.epoch > 1 for table in agent.tables.values())
    await agent.disconnect()


async def test_desired_rows_are_sent_to_their_node_only(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    one = ScriptedAgent(coordinator, await operator.enrol("gru-1"))
    two = ScriptedAgent(coordinator, await operator.enrol("gru-2"))
    one.engine_kind = two.engine_kind = "external"
    await one.connect()
    await two.connect()
    await in_step(operator, one)
    await in_step(operator, two)
    await create_account(operator, "acme")
    await operator.admin.RegisterModel(
        admin_pb2.RegisterModelRequest(
            name="acme/far@1",
            source=resources_pb2.MODEL_SOURCE_EXTERNAL,
            size_class="xs",
            context_tokens=4_096,
        )
    )
    await operator.admin.ApplyDeployment(
        admin_pb2.ApplyDeploymentRequest(
            deployment=resources_pb2.Deployment(
                name="chat",
                account_id="acme",
                model="acme/far@1",
                ttft_budget_ms=80,
                sla_tier=resources_pb2.SLA_TIER_REALTIME,
            ),
            node_ids=["gru-1"],
        )
    )
    await until(lambda: "replica/acme/far@1" in one.rows(ResourceType.DESIRED), "the desired row")
    assert isinstance(two.rows(ResourceType.DEPLOYMENTS)["model/acme/far@1"], Model)
    # Its replica is listed once the node reports it as ready, and removed with it.
    ready = {"model": "acme/far@1", "state": resources_pb2.REPLICA_STATE_READY, "generation": 3}
    one.keep_reporting(replicas=[ready])
    key = "replica/gru-1/acme/far@1"
    await until(lambda: key in two.rows(ResourceType.DEPLOYMENTS), "the replica's row")
    one.keep_reporting(replicas=[])
    await until(lambda: key not in two.rows(ResourceType.DEPLOYMENTS), "the row's removal")
    assert two.rows(ResourceType.DESIRED) == {}
    await in_step(operator, two)
    # The deployment moves.
    await operator.admin.ApplyDeployment(
        admin_pb2.ApplyDeploymentRequest(
            deployment=resources_pb2.Deployment(
                name="chat",
                account_id="acme",
                model="acme/far@1",
                ttft_budget_ms=80,
                sla_tier=resources_pb2.SLA_TIER_REALTIME,
            ),
            node_ids=["gru-2"],
        )
    )
    await until(lambda: "replica/acme/far@1" in two.rows(ResourceType.DESIRED), "the move")
    await until(lambda: one.rows(ResourceType.DESIRED) == {}, "nothing to hold")
    digest = digest_from_bytes(one.hello().have[0].digest)
    assert digest == one.tables[ResourceType.TOPOLOGY].digest
    await one.disconnect()
    await two.disconnect()


async def test_credentials_go_where_the_zones_of_their_account_allow(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    await create_account(operator, "acme")
    made = await operator.admin.CreateKey(admin_pb2.CreateKeyRequest(account_id="acme"))
    await operator.create_pop("IAD", "US")

    def key_at(agent: ScriptedAgent) -> object:
        return agent.rows(ResourceType.CREDENTIALS).get(f"key/{made.id}")

    def knows_account(agent: ScriptedAgent) -> bool:
        return "account/acme" in agent.rows(ResourceType.CREDENTIALS)

    async with (
        ScriptedAgent(coordinator, await operator.enrol("gru-1")) as gru,
        ScriptedAgent(coordinator, await operator.enrol("iad-1", "IAD")) as iad,
    ):
        for agent in (gru, iad):
            await in_step(operator, agent)
            assert isinstance(key_at(agent), ApiKey)
        bind = residency_pb2.SetAccountZonesRequest(account_id="acme", zones=["BR"])
        bound = await operator.residency.SetAccountZones(bind)
        assert list(bound.zones) == ["BR"]
        await until(lambda: isinstance(key_at(iad), ForeignKey), "only where the key may be used")
        await until(lambda: not knows_account(iad), "no row of the account")
        for agent in (gru, iad):
            await in_step(operator, agent)
        assert isinstance(key_at(gru), ApiKey)
        assert knows_account(gru)
