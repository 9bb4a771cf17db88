"""Fault 7: pushes that must not be believed. The agent says no, and keeps the last good table."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protos.domain.resources import Pop, ResourceType, Tier
from protos.domain.routing_table import MAX_ROW_BYTES, TableVersion, empty_table, table_of
from protos.v1 import fleet_pb2
from tests.support.agent_link import (
    LinkedAgent,
    delta_message,
    linked,
    snapshot_message,
    table_with,
)
from tests.support.scripted_coordinator import ScriptedCoordinator
from tests.support.waiting import wait_until_async


def pops(count: int) -> list[Pop]:
    return [Pop(f"P{number}", Tier.EDGE, "BR", "city", 0.0, 0.0) for number in range(count)]


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[ScriptedCoordinator]:
    scripted = ScriptedCoordinator(tmp_path)
    await scripted.start()
    yield scripted
    await scripted.stop()


@pytest.fixture
async def agent(coordinator: ScriptedCoordinator, tmp_path: Path) -> AsyncIterator[LinkedAgent]:
    async with linked(coordinator, tmp_path / "identity") as one:
        await wait_until_async(lambda: coordinator.hellos, 30, "a Hello")
        yield one


GOOD = table_with(pops(30), 5)


async def take_good(coordinator: ScriptedCoordinator, agent: LinkedAgent) -> None:
    answer = await coordinator.verdict(coordinator.push(snapshot_message(GOOD)))
    assert isinstance(answer, fleet_pb2.Ack)
    assert (answer.epoch, answer.version) == (1, 5)
    assert len(agent.tables.view.pops) == 30


async def refused(
    coordinator: ScriptedCoordinator,
    agent: LinkedAgent,
    message: fleet_pb2.Snapshot | fleet_pb2.Delta,
) -> fleet_pb2.Nack:
    """Push ``message``, and return the refusal after checking that nothing else has changed."""
    answer = await coordinator.verdict(coordinator.push(message))
    assert isinstance(answer, fleet_pb2.Nack)
    assert agent.table(ResourceType.TOPOLOGY).at == GOOD.at
    assert agent.table(ResourceType.TOPOLOGY).digest == GOOD.digest
    assert len(agent.tables.view.pops) == 30
    assert (answer.have.epoch, answer.have.version) == (1, 5)
    return answer


async def test_a_delta_with_a_gap_is_refused_and_a_snapshot_mends_it(coordinator, agent) -> None:
    await take_good(coordinator, agent)
    older, newer = table_with(pops(31), 7), table_with(pops(32), 8)
    nack = await refused(coordinator, agent, delta_message(older, newer))
    assert nack.reason == fleet_pb2.NACK_REASON_GAP
    answer = await coordinator.verdict(coordinator.push(snapshot_message(newer)))
    assert isinstance(answer, fleet_pb2.Ack)
    assert len(agent.tables.view.pops) == 32


async def test_a_delta_with_a_wrong_digest_is_refused(coordinator, agent) -> None:
    await take_good(coordinator, agent)
    message = delta_message(GOOD, table_with(pops(31), 6))
    message.result_digest = bytes(32)
    nack = await refused(coordinator, agent, message)
    assert nack.reason == fleet_pb2.NACK_REASON_DIGEST


async def test_a_snapshot_of_a_stale_epoch_is_refused(coordinator, agent) -> None:
    await take_good(coordinator, agent)
    stale = table_with(pops(31), 99, epoch=0)
    nack = await refused(coordinator, agent, snapshot_message(stale))
    assert nack.reason == fleet_pb2.NACK_REASON_STALE


async def test_an_older_version_of_the_same_epoch_is_refused(coordinator, agent) -> None:
    await take_good(coordinator, agent)
    nack = await refused(coordinator, agent, snapshot_message(table_with(pops(31), 4)))
    assert nack.reason == fleet_pb2.NACK_REASON_STALE


async def test_an_oversized_row_is_refused(coordinator, agent) -> None:
    await take_good(coordinator, agent)
    rows = dict(GOOD.rows) | {"pop/BIG": bytes(MAX_ROW_BYTES + 1)}
    big = table_of(ResourceType.TOPOLOGY, TableVersion(1, 6), rows)
    nack = await refused(coordinator, agent, snapshot_message(big))
    assert nack.reason == fleet_pb2.NACK_REASON_TOO_LARGE


async def test_an_emptied_table_of_more_than_20_rows_is_refused(coordinator, agent) -> None:
    await take_good(coordinator, agent)
    empty = table_of(ResourceType.TOPOLOGY, TableVersion(1, 6), {})
    for message in (snapshot_message(empty), delta_message(GOOD, empty)):
        nack = await refused(coordinator, agent, message)
        assert nack.reason == fleet_pb2.NACK_REASON_SHRUNK


async def test_a_table_shrunk_by_more_than_half_needs_an_operators_force(
    coordinator, agent
) -> None:
    await take_good(coordinator, agent)
    small = table_with(pops(14), 6)
    nack = await refused(coordinator, agent, snapshot_message(small))
    assert nack.reason == fleet_pb2.NACK_REASON_SHRUNK
    answer = await coordinator.verdict(coordinator.push(snapshot_message(small, forced=True)))
    assert isinstance(answer, fleet_pb2.Ack)
    assert len(agent.tables.view.pops) == 14


async def test_a_row_that_cannot_be_read_is_refused(coordinator, agent) -> None:
    await take_good(coordinator, agent)
    rows = dict(GOOD.rows) | {"pop/BAD": b"\xff\xff\xff"}
    bad = table_of(ResourceType.TOPOLOGY, TableVersion(1, 6), rows)
    nack = await refused(coordinator, agent, snapshot_message(bad))
    assert nack.reason == fleet_pb2.NACK_REASON_MALFORMED


async def test_three_refusals_in_a_row_are_counted_and_one_good_push_forgives(
    coordinator, agent
) -> None:
    await take_good(coordinator, agent)
    for _ in range(3):
        await refused(coordinator, agent, snapshot_message(table_with(pops(31), 4)))
    assert agent.tables.refusals[ResourceType.TOPOLOGY] == 3
    await coordinator.verdict(coordinator.push(snapshot_message(table_with(pops(31), 6))))
    assert agent.tables.refusals[ResourceType.TOPOLOGY] == 0


async def test_a_reconnecting_agent_says_what_it_has(coordinator, agent, tmp_path: Path) -> None:
    await take_good(coordinator, agent)
    port = coordinator.port
    await coordinator.stop()
    await wait_until_async(lambda: not agent.link.status.connected, 20, "the loss")
    assert len(agent.tables.view.pops) == 30
    await coordinator.start(port)
    await wait_until_async(lambda: len(coordinator.hellos) == 2, 20, "a second Hello")
    (have,) = [one for one in coordinator.hellos[1].have if one.version == 5]
    assert have.epoch == 1
    assert int.from_bytes(have.digest, "big") == GOOD.digest


async def test_go_away_is_obeyed_with_its_pause(coordinator, agent) -> None:
    coordinator.say(
        fleet_pb2.CoordinatorMessage(go_away=fleet_pb2.GoAway(retry_after_ms=1, reason="test"))
    )
    await wait_until_async(lambda: len(coordinator.hellos) == 2, 20, "the return")


async def test_questions_are_answered_by_their_id(coordinator, agent) -> None:
    query = fleet_pb2.Query(id="q7", timeout_ms=1_000, explain=fleet_pb2.ExplainQuery())
    coordinator.say(fleet_pb2.CoordinatorMessage(query=query))
    await wait_until_async(
        lambda: any(message.answer.id == "q7" for message in coordinator.heard), 30, "the answer"
    )


async def test_beats_keep_the_credentials_young(coordinator, agent) -> None:
    assert agent.credentials.age_s() == float("inf")
    coordinator.beat()
    await wait_until_async(lambda: agent.credentials.age_s() < 5, 30, "a confirmation")


async def test_nothing_is_held_before_the_first_push(coordinator, agent) -> None:
    assert not agent.tables.loaded
    assert agent.table(ResourceType.TOPOLOGY) == empty_table(ResourceType.TOPOLOGY)
