"""Limits of the fleet listener, reached."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc import aio

from protos.domain.resources import ResourceType
from protos.v1 import admin_pb2, fleet_pb2, resources_pb2
from tests.support.scripted_agent import ScriptedAgent
from tests.support.waiting import wait_until_async

if TYPE_CHECKING:
    from tests.support.coordinator_process import CoordinatorProcess, Operator

TIMEOUT_S = 20.0


def limited(**limits: int) -> pytest.MarkDecorator:
    """Serve with these limits; times are short only where the test lets them pass."""
    lines = "".join(f"{name} = {value}\n" for name, value in limits.items())
    return pytest.mark.parametrize("coordinator", [f"[limits]\n{lines}"], indirect=True)


async def ended(agent: ScriptedAgent) -> grpc.StatusCode:
    await wait_until_async(agent.ended.is_set, TIMEOUT_S, "the stream's end")
    assert agent.error is not None
    return agent.error.code()


async def connected(agent: ScriptedAgent) -> None:
    await wait_until_async(lambda: agent.received.beats, TIMEOUT_S, "a beat")


@limited(max_agents=1)
async def test_an_agent_over_the_limit_is_refused_with_a_time_to_retry(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    async with ScriptedAgent(coordinator, await operator.enrol("gru-1")) as one:
        await connected(one)
        async with ScriptedAgent(coordinator, await operator.enrol("gru-2")) as two:
            assert await ended(two) is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert two.error is not None
            metadata = dict(two.error.trailing_metadata() or ())
            assert int(metadata["edgeforge-retry-after-ms"]) >= 5_000


@limited(agent_messages_per_s=1, agent_messages_burst=20)
async def test_an_agent_over_the_message_rate_is_disconnected(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    async with ScriptedAgent(coordinator, await operator.enrol("gru-1")) as agent:
        await connected(agent)
        for _ in range(40):
            agent.send_status()
        # When the stream ends during a write, gRPC loses the status.
        codes = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL)
        assert await ended(agent) in codes
        await wait_until_async(
            lambda: "too many messages from this agent" in coordinator.log_text(),
            TIMEOUT_S,
            "the reason in the log",
        )


@limited(agent_messages_per_s=1, agent_messages_burst=20)
async def test_an_agent_that_is_asked_often_is_not_disconnected_for_its_answers(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    question = await deploy(operator)
    agent = ScriptedAgent(coordinator, await operator.enrol("gru-1"))
    agent.answer = fleet_pb2.Answer(
        explanation=fleet_pb2.RouteExplanation(deployment="chat", summary="because")
    )
    async with agent:
        await connected(agent)
        for _ in range(60):
            assert (await operator.admin.ExplainRoute(question)).summary == "because"


@limited(push_timeout_ms=1_500)
async def test_an_agent_that_never_answers_a_push_is_disconnected(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    agent = ScriptedAgent(coordinator, await operator.enrol("gru-1"))
    agent.answers = False
    async with agent:
        assert await ended(agent) is grpc.StatusCode.DEADLINE_EXCEEDED
        assert agent.received.go_away is not None


@limited(hello_timeout_ms=300)
async def test_a_stream_without_a_hello_ends(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    agent = ScriptedAgent(coordinator, await operator.enrol("gru-1"))
    async with agent.channel() as channel:
        call = channel.stream_stream("/edgeforge.v1.Fleet/Connect")()
        await call.wait_for_connection()
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_bytes_that_do_not_parse_end_the_stream(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    agent = ScriptedAgent(coordinator, await operator.enrol("gru-1"))
    async with agent.channel() as channel:
        call = channel.stream_stream("/edgeforge.v1.Fleet/Connect")()
        await call.write(b"\xff\xff\xff")
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        too_large = channel.stream_stream("/edgeforge.v1.Fleet/Connect")()
        with contextlib.suppress(asyncio.InvalidStateError):
            await too_large.write(b"\0" * (5 * 1024 * 1024))
        assert await too_large.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_second_hello_ends_the_stream(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    async with ScriptedAgent(coordinator, await operator.enrol("gru-1")) as agent:
        await connected(agent)
        agent.send(fleet_pb2.AgentMessage(hello=agent.hello()))
        assert await ended(agent) is grpc.StatusCode.INVALID_ARGUMENT


async def deploy(operator: Operator) -> admin_pb2.ExplainRouteRequest:
    """Create a deployment of an external model, and return a question about it."""
    await operator.admin.CreateAccount(admin_pb2.CreateAccountRequest(id="acme"))
    await operator.admin.RegisterModel(
        admin_pb2.RegisterModelRequest(
            name="acme/far@1",
            source=resources_pb2.MODEL_SOURCE_EXTERNAL,
            size_class="xs",
            context_tokens=4_096,
        )
    )
    deployment = resources_pb2.Deployment(
        name="chat",
        account_id="acme",
        model="acme/far@1",
        ttft_budget_ms=80,
        sla_tier=resources_pb2.SLA_TIER_REALTIME,
    )
    await operator.admin.ApplyDeployment(admin_pb2.ApplyDeploymentRequest(deployment=deployment))
    return admin_pb2.ExplainRouteRequest(deployment="chat", via="gru-1")


@limited(max_queries_per_node=1, query_timeout_ms=3_000)
async def test_queries_are_answered_or_time_out(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    question = await deploy(operator)
    identity = await operator.enrol("gru-1")
    with pytest.raises(aio.AioRpcError) as away:
        await operator.admin.ExplainRoute(question)
    assert away.value.code() is grpc.StatusCode.UNAVAILABLE
    agent = ScriptedAgent(coordinator, identity)
    agent.answer = fleet_pb2.Answer(
        explanation=fleet_pb2.RouteExplanation(deployment="chat", summary="because")
    )
    async with agent:
        await connected(agent)
        assert (await operator.admin.ExplainRoute(question)).summary == "because"
        agent.answer = None
        first = asyncio.ensure_future(operator.admin.ExplainRoute(question))
        await wait_until_async(lambda: len(agent.received.queries) == 2, TIMEOUT_S, "the question")
        with pytest.raises(aio.AioRpcError) as busy:
            await operator.admin.ExplainRoute(question)
        assert busy.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(aio.AioRpcError) as late:
            await first
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "gru-1" in (late.value.details() or "")
        lost = asyncio.ensure_future(operator.admin.ExplainRoute(question))
        await wait_until_async(lambda: len(agent.received.queries) == 3, TIMEOUT_S, "the question")
        await agent.disconnect()
        with pytest.raises(aio.AioRpcError) as gone:
            await lost
        assert gone.value.code() in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        )


async def test_while_the_database_is_locked_tables_are_still_pushed_and_writes_follow_later(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    """Fault 11."""
    identity = await operator.enrol("gru-1")
    database = coordinator.state_dir / "coordinator.db"
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        agent = ScriptedAgent(coordinator, identity)
        await agent.connect()
        await wait_until_async(
            lambda: set(agent.received.snapshots) == set(ResourceType), TIMEOUT_S, "all tables"
        )
        await wait_until_async(
            lambda: "cannot be written, it waits" in coordinator.log_text(), TIMEOUT_S, "the log"
        )
        assert "node/gru-1" not in agent.rows(ResourceType.TOPOLOGY)
        other.execute("ROLLBACK")
    await wait_until_async(
        lambda: "node/gru-1" in agent.rows(ResourceType.TOPOLOGY), TIMEOUT_S, "its row after all"
    )
    await wait_until_async(
        lambda: "is written again" in coordinator.log_text(), TIMEOUT_S, "the log"
    )
    assert coordinator.log_text().count("cannot be written, it waits") == 1
    assert "Traceback" not in coordinator.log_text()
    await agent.disconnect()


async def test_a_stopping_coordinator_sends_a_time_to_retry(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    agent = ScriptedAgent(coordinator, await operator.enrol("gru-1"))
    await agent.connect()
    await connected(agent)
    assert await asyncio.to_thread(coordinator.stop) == 0
    await wait_until_async(agent.ended.is_set, TIMEOUT_S, "the stream's end")
    assert agent.received.go_away is not None
    assert 500 <= agent.received.go_away.retry_after_ms <= 5_000
    assert agent.error is None
    await agent.disconnect()
