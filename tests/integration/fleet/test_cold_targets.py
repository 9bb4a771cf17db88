"""Adapters and models that are in no engine yet: loaded when a request comes, once, where sooner.

Three nodes in this process: an edge node and a regional one with engines, and one without.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector

from agent.core.cold_start import ColdPath, ColdWay
from agent.core.peer_request import (
    ACCOUNT_HEADER,
    ADAPTER_HEADER,
    DEPLOYMENT_HEADER,
    LOAD_HEADER,
    MODEL_HEADER,
)
from agent.peers.fetch import fetch_response
from agent.relay.messages import request_bytes
from protos.domain.errors import InvalidRequest
from protos.domain.resources import Adapter, ReplicaState, Residency, Resource, Tier
from tests.support.cell import Cell, CellResidents, cell, told_model
from tests.support.fleets import MODEL, deployment, model, node, pop, price, replica
from tests.support.waiting import wait_until_async

FR, DE, THEIRS = "acme/fr@1", "acme/de@1", "other/x@1"
TUNED = "acme/tuned@1"
LOAD_MS = 150.0
DISK = ColdWay(ColdPath.ADAPTER, Residency.DISK)
SWAP = ColdWay(ColdPath.SWAP, Residency.DISK)
NODES = {"gru-1": Tier.EDGE, "iad-1": Tier.REGIONAL, "scl-1": Tier.EDGE}


def rows() -> list[Resource]:
    found: list[Resource] = [model(), replace(model(TUNED), swap_key=b"k")]
    for name, tier in NODES.items():
        pop_id = name[:3].upper()
        found += [pop(pop_id, tier), node(name, pop_id)]
    found += [price(tier, 10) for tier in Tier]
    found += [Adapter(name, MODEL, 8, 1_000_000, b"a" * 32, "acme") for name in (FR, DE)]
    found += [Adapter(THEIRS, MODEL, 8, 1_000_000, b"a" * 32, "other")]
    found += [replica(name) for name in ("gru-1", "iad-1")]
    found += [at(name, FR) for name in ("gru-1", "iad-1")]
    found += [
        replace(deployment("base"), ttft_budget_ms=5_000),
        replace(deployment("french", adapter=FR), ttft_budget_ms=5_000),
        replace(deployment("german", adapter=DE), ttft_budget_ms=5_000),
        replace(deployment("tuned", model=TUNED), ttft_budget_ms=5_000),
        replace(deployment("strict", adapter=FR, strict=True), ttft_budget_ms=100),
    ]
    return found


def at(node_id: str, adapter: str, state: ReplicaState = ReplicaState.COLD) -> Resource:
    return replace(replica(node_id, state=state), adapter=adapter, residency=Residency.DISK)


def residents() -> dict[str, CellResidents]:
    def made(there: set[str]) -> CellResidents:
        return CellResidents(there=there, ways={FR: DISK}, load_ms=LOAD_MS)

    return {"gru-1": made({MODEL}), "iad-1": made({MODEL}), "scl-1": CellResidents(there=set())}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Cell]:
    async with cell(tmp_path, residents(), rows()) as made:
        yield made


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession(connector=TCPConnector(limit=0)) as made:
        yield made


def only_at(world: Cell, node_id: str, *adapters: str) -> None:
    """Let ``node_id`` alone have the model, and load ``adapters``."""
    gone = [
        *(row for row in world.view.replicas[MODEL].values() if row.node_id != node_id),
        *(row for row in world.view.adapter_replicas[FR].values() if row.node_id != node_id),
    ]
    world.change(*(at(node_id, one) for one in adapters), removed=tuple(gone))
    world.residents[node_id].ways = dict.fromkeys(adapters, DISK)


async def test_the_first_answer_waits_for_the_load_and_the_second_is_warm(
    world: Cell, session: ClientSession
) -> None:
    only_at(world, "gru-1", FR)
    status, headers, body = await world.chat(session, "gru-1", "french", stream=True)
    assert status == 200, body
    assert headers["x-edgeforge-node"] == "gru-1"
    durations = dict(re.findall(r"(\w+);dur=([\d.]+)", headers["server-timing"]))
    assert float(durations["load"]) >= LOAD_MS
    status, headers, body = await world.chat(session, "gru-1", "french")
    assert (status, told_model(body)) == (200, "french")
    assert "load" not in headers["server-timing"]
    first, second = reversed(world.traces("gru-1"))
    assert first["cold_start"] is not None
    assert second["cold_start"] is None
    assert len(world.residents["gru-1"].loads) == 1


async def test_a_peer_loads_for_another_node_and_reports_its_cold_start(
    world: Cell, session: ClientSession
) -> None:
    only_at(world, "iad-1", FR)
    await world.probed()
    status, headers, body = await world.chat(session, "scl-1", "french", stream=True)
    assert (status, headers["x-edgeforge-node"]) == (200, "iad-1"), body
    durations = dict(re.findall(r"(\w+);dur=([\d.]+)", headers["server-timing"]))
    assert float(durations["load"]) >= LOAD_MS
    (log,) = world.planes["scl-1"].records.latest(1)
    assert log.cold_start is not None
    assert log.cold_start.path is ColdPath.ADAPTER
    assert log.ttft_ms is not None
    assert log.ttft_ms >= LOAD_MS
    learned = world.planes["scl-1"].state.loads.expect("iad-1", log.cold_start.way, 1_000_000)
    assert learned.p50_ms == pytest.approx(log.cold_start.took_ms)
    _, headers, body = await world.chat(session, "scl-1", "french")
    assert told_model(body) == "french"
    assert "load" not in headers["server-timing"]
    assert not +world.residents["iad-1"].entered


async def test_what_is_cold_here_and_warm_elsewhere_is_served_where_it_is_sooner(
    world: Cell, session: ClientSession
) -> None:
    world.residents["iad-1"].there.add(FR)
    await world.probed()
    _, headers, _ = await world.chat(session, "gru-1", "french")
    assert headers["x-edgeforge-node"] == "iad-1"
    assert world.residents["gru-1"].loads == []


async def test_a_strict_deployment_waits_for_no_load_that_is_predicted_late(
    world: Cell, session: ClientSession
) -> None:
    status, _, body = await world.chat(session, "gru-1", "strict")
    assert status == 429, body
    world.residents["gru-1"].there.add(FR)
    status, _, body = await world.chat(session, "gru-1", "strict")
    assert status == 200, body


async def test_the_base_and_two_adapters_are_served_side_by_side(
    world: Cell, session: ClientSession
) -> None:
    only_at(world, "gru-1", FR, DE)
    await world.probed()
    names = ["base", "french", "german"] * 10
    answers = await asyncio.gather(*(world.chat(session, "gru-1", name) for name in names))
    assert [status for status, _, _ in answers] == [200] * 30
    assert [told_model(body) for _, _, body in answers] == names
    asked = Counter(one.body["model"] for one in world.engines["gru-1"].records)
    assert asked == {f"{name}+digest": 10 for name in (MODEL, FR, DE)}
    assert Counter(one.name for one in world.residents["gru-1"].loads) == {FR: 1, DE: 1}


@pytest.mark.parametrize(("via", "count"), [("iad-1", 1_000), ("scl-1", 100)])
async def test_a_thousand_first_requests_cause_one_load_and_none_fails(
    world: Cell, session: ClientSession, via: str, count: int
) -> None:
    """Through a peer they are fewer: each takes a connection, whose handshake takes a moment."""
    only_at(world, "iad-1", FR)
    await world.probed()
    answers = await asyncio.gather(*(world.chat(session, via, "french") for _ in range(count)))
    failed = [body for status, _, body in answers if status != 200]
    assert failed == []
    assert len(world.residents["iad-1"].loads) == 1
    assert not +world.residents["iad-1"].entered


async def test_a_client_that_leaves_does_not_cut_the_load_of_others(
    world: Cell, session: ClientSession
) -> None:
    only_at(world, "iad-1", FR)
    await world.probed()
    held = world.residents["iad-1"]
    held.gate = asyncio.Event()
    leaves = asyncio.ensure_future(world.chat(session, "scl-1", "french"))
    stays = asyncio.ensure_future(world.chat(session, "scl-1", "french"))
    loads = world.planes["iad-1"].loads
    await waited(lambda: loads.waiting == 2)
    leaves.cancel()
    await waited(lambda: loads.waiting == 1)
    held.gate.set()
    assert (await stays)[0] == 200


@pytest.mark.parametrize("via", ["gru-1", "scl-1"])
async def test_a_load_that_fails_is_said_to_the_client_and_blames_no_node(
    world: Cell, session: ClientSession, via: str
) -> None:
    only_at(world, "gru-1", FR)
    await world.probed()
    world.residents["gru-1"].error = InvalidRequest("rank 512 is above the limit")
    for _ in range(5):
        status, _, body = await world.chat(session, via, "french")
        assert status == 503, body
        await world.probed()
    status, _, body = await world.chat(session, via, "base")
    assert status == 200, body
    assert world.planes[via].live.ejections == 0
    assert world.planes["gru-1"].peer_port.stats.invalid == 0


async def waited(condition: Callable[[], bool]) -> None:
    await wait_until_async(condition, 20, "the number of those who wait")


@pytest.mark.parametrize("via", ["gru-1", "scl-1"])
async def test_no_request_fails_while_two_models_take_turns_in_one_engine(
    world: Cell, session: ClientSession, via: str
) -> None:
    only_at(world, "gru-1")
    held = world.residents["gru-1"]
    held.ways, held.load_ms = {TUNED: SWAP, MODEL: SWAP}, 5.0
    cold = replace(replica("gru-1", model=TUNED, state=ReplicaState.COLD), residency=Residency.DISK)
    world.change(cold)
    await world.probed()
    names = ["base", "tuned"] * 100
    at_once = asyncio.Semaphore(12)

    async def ask(name: str) -> int:
        async with at_once:
            return (await world.chat(session, via, name))[0]

    statuses = await asyncio.gather(*(ask(name) for name in names))
    assert Counter(statuses) == {200: 200}
    assert held.swaps >= 2
    assert world.planes[via].live.ejections == 0
    assert not +held.entered


async def test_an_adapter_that_no_node_has_is_a_clear_error(
    world: Cell, session: ClientSession
) -> None:
    status, headers, body = await world.chat(session, "gru-1", "german")
    assert status == 503
    assert "without the adapter" in body
    assert DE in body
    assert int(headers["retry-after"]) >= 1


@pytest.mark.parametrize(("adapter", "status"), [(THEIRS, 403), (DE, 409), ("x", 403)])
async def test_a_peer_that_asks_for_what_the_deployment_does_not_name_is_refused(
    world: Cell, adapter: str, status: int
) -> None:
    world.residents["iad-1"].ways = dict.fromkeys((FR, DE, THEIRS), DISK)
    plane = world.planes["gru-1"]
    pool = plane._peers.pool_for("iad-1")
    assert pool is not None
    claims = {
        ACCOUNT_HEADER: b"acme",
        DEPLOYMENT_HEADER: b"french",
        MODEL_HEADER: MODEL.encode(),
        ADAPTER_HEADER: adapter.encode(),
        LOAD_HEADER: b"1",
    }
    body = b'{"model":"x","messages":[]}'
    path, host = b"/v1/chat/completions", pool.address.host_header
    asked = request_bytes("POST", path, host, list(claims.items()), body)
    found, _ = await fetch_response(pool, asked, 5_000.0)
    assert found == status
    there = world.planes["iad-1"]
    assert there.peer_port.stats.invalid == (1 if status == 403 else 0)
    assert world.residents["iad-1"].loads == []


async def test_an_update_of_a_deployment_fails_no_request(
    world: Cell, session: ClientSession
) -> None:
    only_at(world, "iad-1", FR)
    await world.probed()

    async def ask(number: int) -> tuple[int, str]:
        status, _, body = await world.chat(session, "scl-1", "french")
        if number == 20:
            world.change(replace(deployment("french"), ttft_budget_ms=5_000))
        return status, body

    answers = await asyncio.gather(*(ask(number) for number in range(60)))
    answers += await asyncio.gather(*(ask(100) for _ in range(20)))
    assert Counter(status for status, _ in answers) == {200: 80}
    assert world.engines["iad-1"].records[-1].body["model"] == f"{MODEL}+digest"
