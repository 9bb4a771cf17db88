from __future__ import annotations

import asyncio
from typing import Any

import pytest

from coordinator.core.fleet_figures import FleetCounters
from coordinator.fleet.agent_queries import AgentQueries, QueryLimits
from protos.domain.errors import DeadlineExceeded, LinkDown, Overloaded
from protos.v1 import fleet_pb2


class Stream:
    """Records queries; the test answers them."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.asked: list[fleet_pb2.Query] = []

    def send_query(self, data: bytes) -> None:
        self.asked.append(fleet_pb2.CoordinatorMessage.FromString(data).query)


def ask(queries: AgentQueries, stream: Any, **fields: Any) -> asyncio.Future[fleet_pb2.Answer]:
    return asyncio.ensure_future(queries.ask(stream, fleet_pb2.Query(**fields)))


def queries(**limits: Any) -> AgentQueries:
    return AgentQueries(QueryLimits(**limits), FleetCounters())


async def test_an_answer_reaches_its_query():
    asking, stream = queries(), Stream("gru-1")
    first, second = ask(asking, stream), ask(asking, stream)
    await asyncio.sleep(0)
    one, two = stream.asked
    assert one.id != two.id
    some: Any = stream
    asking.answer(some, fleet_pb2.Answer(id=two.id, error="two"))
    asking.answer(some, fleet_pb2.Answer(id=one.id, error="one"))
    assert ((await first).error, (await second).error) == ("one", "two")


async def test_an_answer_from_another_node_does_not_count():
    asking, stream, other = queries(), Stream("gru-1"), Stream("gru-2")
    waiting = ask(asking, stream)
    await asyncio.sleep(0)
    own: Any = stream
    stranger: Any = other
    asking.answer(stranger, fleet_pb2.Answer(id=stream.asked[0].id, error="forged"))
    asking.answer(own, fleet_pb2.Answer(id="999"))
    assert not waiting.done()
    asking.answer(own, fleet_pb2.Answer(id=stream.asked[0].id, error="own"))
    asking.answer(own, fleet_pb2.Answer(id=stream.asked[0].id, error="again"))
    assert (await waiting).error == "own"


async def test_no_answer_in_time():
    asking = queries(max_timeout_ms=20.0)
    with pytest.raises(DeadlineExceeded, match=r"gru-1.*20 ms"):
        await ask(asking, Stream("gru-1"), timeout_ms=60_000)


async def test_a_lost_stream_fails_what_was_asked_on_it():
    asking, stream, other = queries(), Stream("gru-1"), Stream("gru-2")
    lost, kept = ask(asking, stream), ask(asking, other)
    await asyncio.sleep(0)
    gone: Any = stream
    asking.lost(gone)
    with pytest.raises(LinkDown, match="gru-1"):
        await lost
    assert not kept.done()
    kept.cancel()


async def test_queries_are_limited_for_each_node_and_in_all():
    asking, one, two = queries(max_all=3, max_per_node=2), Stream("a-1"), Stream("b-1")
    waiting = [ask(asking, one), ask(asking, one)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="a-1"):
        await ask(asking, one)
    waiting.append(ask(asking, two))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="3 questions"):
        await ask(asking, Stream("c-1"))
    for one_waiting in waiting:
        one_waiting.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    again = ask(asking, one)
    await asyncio.sleep(0)
    assert not again.done()
    again.cancel()
