"""Agents' links to the coordinator's quota service, over real sockets with mutual TLS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpc import aio

from protos.domain.customers import Account, UsageLimits
from protos.domain.errors import InvalidRequest
from protos.domain.quota import LEASE_MARGIN_MS, LEASE_MS
from protos.v1 import quota_pb2
from protos.v1.quota_pb2_grpc import QuotaStub
from tests.support.quota_cell import QuotaAgent, QuotaCoordinator, quota_agent

pytestmark = pytest.mark.integration


class Cell:
    """A coordinator with one account, and two agents."""

    def __init__(self, folder: Path) -> None:
        account = Account("acme", UsageLimits(max_concurrent_sequences=10), funded=True)
        self.coordinator = QuotaCoordinator(folder, account, remaining=1_000_000)
        self.agents: list[QuotaAgent] = []


@pytest.fixture
async def cell(tmp_path: Path) -> AsyncIterator[Cell]:
    one = Cell(tmp_path)
    # Rows that are new since the coordinator's start have no leases of before.
    rows, one.coordinator.view = one.coordinator.view, type(one.coordinator.view)()
    await one.coordinator.start()
    one.coordinator.view = rows
    for name in ("a1", "a2"):
        agent = quota_agent(one.coordinator, name, tmp_path / name)
        agent.start()
        one.agents.append(agent)
    yield one
    for agent in one.agents:
        await agent.stop()
    await one.coordinator.stop()


async def wait_for_code(agent: QuotaAgent, code: str, within_s: float) -> None:
    """Send requests until one is answered with ``code``."""
    until_s = time.monotonic() + within_s
    while (got := await agent.ask_or_code(cost=1_000)) != code:
        assert time.monotonic() < until_s, got
        await asyncio.sleep(0.05)


async def test_two_agents_at_one_cap_never_admit_more_than_it(cell: Cell) -> None:
    first, second = cell.agents
    codes = await asyncio.gather(
        *(agent.ask_or_code(cost=90_000) for agent in (first, second) for _ in range(8))
    )
    assert 1 <= codes.count("ok") <= 11
    assert set(codes) <= {"ok", "rate_limit_exceeded"}
    held = sum(
        lease.in_use
        for agent in cell.agents
        for lease in agent.limits.calls._leases.values()
        if lease.name.kind == "money"
    )
    assert held <= 1_000_000


async def test_the_first_request_of_an_account_at_an_agent_waits_some_milliseconds(
    cell: Cell,
) -> None:
    agent = cell.agents[0]
    await agent.ask(cost=1_000)
    await agent.ask(cost=1_000)
    assert agent.waits_ms[0] < 400.0
    assert agent.waits_ms[1] < 5.0, "the second one finds a lease"


async def test_a_cap_that_is_reached_stops_new_requests_within_five_seconds(cell: Cell) -> None:
    agent = cell.agents[0]
    await agent.ask(cost=1_000)
    cell.coordinator.remaining = 0
    await wait_for_code(agent, "insufficient_quota", 5.0)


async def test_a_raised_cap_is_known_within_five_seconds(cell: Cell) -> None:
    cell.coordinator.remaining = 0
    agent = cell.agents[0]
    assert await agent.ask_or_code(cost=1_000) == "insufficient_quota"
    cell.coordinator.remaining = 1_000_000
    await wait_for_code(agent, "ok", 5.0)


async def test_a_removed_node_gets_no_quota(cell: Cell) -> None:
    cell.coordinator.known = False
    await wait_for_code(cell.agents[0], "link_down", 10.0)


async def test_an_agent_uses_its_leases_while_the_coordinator_restarts(cell: Cell) -> None:
    agent, other = cell.agents
    await agent.ask(cost=1_000)
    await cell.coordinator.stop()
    assert await agent.ask_or_code(cost=1_000) == "ok", "what is held may be used"
    await cell.coordinator.start()
    # Agents that are not heard yet may hold all of it.
    await wait_for_code(other, "rate_limit_exceeded", 5.0)
    await wait_for_code(other, "ok", (LEASE_MS + LEASE_MARGIN_MS) / 1_000 + 3.0)


async def test_calls_that_are_no_calls_are_refused(cell: Cell) -> None:
    link = cell.agents[0].link
    async with link._make_channel() as channel:
        stub = QuotaStub(channel)
        bad = [
            quota_pb2.LeaseRequest(seq=1),
            quota_pb2.LeaseRequest(boot_id="x" * 65, seq=1),
            quota_pb2.LeaseRequest(boot_id="x", seq=1, asks=[quota_pb2.LeaseAsk(kind=99)]),
            quota_pb2.LeaseRequest(
                boot_id="x", seq=1, asks=[quota_pb2.LeaseAsk(kind=1, key_digest=b"short")]
            ),
            quota_pb2.LeaseRequest(
                boot_id="x", seq=1, asks=[quota_pb2.LeaseAsk(kind=1, want=(1 << 64) - 1)]
            ),
            quota_pb2.LeaseRequest(boot_id="x", seq=1, asks=[quota_pb2.LeaseAsk(kind=1)] * 2_049),
        ]
        for request in bad:
            with pytest.raises(aio.AioRpcError) as refused:
                await stub.Lease(request)
            assert refused.value.code().name == InvalidRequest.grpc_code
        unknown = quota_pb2.LeaseRequest(
            boot_id="x", seq=2, asks=[quota_pb2.LeaseAsk(kind=1, account_id="nosuch", want=5)]
        )
        assert not (await stub.Lease(unknown)).grants
        with pytest.raises(aio.AioRpcError) as late:
            await stub.Lease(unknown)
        assert late.value.code().name == "ABORTED"
