"""Who finds no connection ready: the line for one, on real sockets, made when a test says so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agent.relay.upstream import Address, UpstreamConnection
from agent.relay.upstream_pool import MAX_DIALS, MAX_IN_LINE, UpstreamPool
from protos.domain.errors import LinkDown
from tests.support.in_process_gateway import chat_request, in_process_gateway, replaced_policy
from tests.support.waiting import wait_until_async

BODY = b'{"model":"small","stream":true,"messages":[]}'


class _HeldPool:
    """A pool that connects when let."""

    def __init__(self, port: int, *, max_idle: int) -> None:
        self.pool = UpstreamPool(
            Address("engine", b"engine", host="127.0.0.1", port=port),
            max_idle=max_idle,
            connect_timeout_ms=20_000.0,
            connect=self._connect,
        )
        self.let = asyncio.Semaphore(0)
        self.held = 0
        self.most_held = 0
        #: What is raised instead of connecting, first to last.
        self.failures: list[Exception] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pool, name)

    async def _connect(self, pool: UpstreamPool) -> UpstreamConnection:
        self.held += 1
        self.most_held = max(self.most_held, self.held)
        try:
            await self.let.acquire()
        finally:
            self.held -= 1
        if self.failures:
            raise self.failures.pop(0)
        return await pool.dial()

    def let_all(self) -> None:
        """Hold nobody any more."""
        for _ in range(10_000):
            self.let.release()


class _Target:
    """The other end: how many connections are open there."""

    def __init__(self) -> None:
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        self.open -= 1

    async def expect_open(self, count: int) -> None:
        await wait_until_async(lambda: self.open == count, 20, f"{count} open connections")


@contextlib.asynccontextmanager
async def held_pool(max_idle: int = 1_024) -> AsyncIterator[tuple[_HeldPool, _Target]]:
    target = _Target()
    server = await asyncio.start_server(target.serve, "127.0.0.1", 0, backlog=1_024)
    pool = _HeldPool(server.sockets[0].getsockname()[1], max_idle=max_idle)
    try:
        yield pool, target
    finally:
        pool.close()
        server.close()
        await target.expect_open(0)


async def stand(pool: _HeldPool, count: int) -> list[asyncio.Task[UpstreamConnection]]:
    """Return ``count`` requests that stand in line."""
    before = pool.in_line
    tasks = [asyncio.create_task(pool.take()) for _ in range(count)]
    await wait_until_async(lambda: pool.in_line == before + count, 20, f"{count} in line")
    await wait_until_async(lambda: pool.held == min(pool.in_line, MAX_DIALS), 20, "their dials")
    return tasks


async def test_a_crowd_stands_in_line_and_no_more_than_64_connect_at_once() -> None:
    async with held_pool() as (pool, target):
        tasks = await stand(pool, 400)
        pool.let_all()
        connections = await asyncio.gather(*tasks)
        assert len(set(connections)) == 400
        assert pool.most_held == MAX_DIALS
        await target.expect_open(400)
        for connection in connections:
            pool.give_back(connection)


async def test_a_connection_that_comes_back_goes_to_the_first_in_line() -> None:
    async with held_pool() as (pool, _):
        pool.let.release()
        first = await pool.take()
        tasks = await stand(pool, 3)
        pool.give_back(first)
        assert await tasks[0] is first
        assert not any(task.done() for task in tasks[1:])
        pool.let_all()
        for connection in [first, *await asyncio.gather(*tasks[1:])]:
            pool.give_back(connection)
        await wait_until_async(lambda: pool.idle == 4, 20, "what was made for who was served")


async def test_a_target_that_cannot_be_reached_is_told_to_all_in_line_at_once() -> None:
    async with held_pool() as (pool, _):
        tasks = await stand(pool, 200)
        pool.failures = [LinkDown("engine: connection refused")] * MAX_DIALS
        pool.let.release()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert {str(one) for one in found} == {"engine: connection refused"}
        assert pool.held == MAX_DIALS - 1, "nobody was dialled for once more"
        pool.let_all()
        await wait_until_async(lambda: pool.held == 0, 20, "the other dials")


async def test_one_connection_that_fails_among_others_costs_one_request_its_place() -> None:
    async with held_pool() as (pool, target):
        tasks = await stand(pool, 100)
        pool.let.release()
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        pool.failures = [LinkDown("engine: connection reset")]
        pool.let_all()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(one, LinkDown) for one in found) == 1
        await target.expect_open(99)
        for one in found:
            if isinstance(one, UpstreamConnection):
                one.abort()


async def test_a_fault_of_ours_while_connecting_leaves_nobody_waiting() -> None:
    async with held_pool() as (pool, _):
        tasks = await stand(pool, 3)
        pool.failures = [ValueError("label too long")] * 3
        pool.let_all()
        for one in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(one, LinkDown)
            assert "label too long" in str(one)
        assert pool.in_line == 0


async def test_who_leaves_the_line_leaves_nothing_open_and_holds_nobody_up() -> None:
    async with held_pool() as (pool, target):
        first, second = await stand(pool, 2)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert pool.in_line == 1
        pool.let_all()
        pool.give_back(await second)
        await target.expect_open(2)
        assert pool.idle == 2, "the connection that was made for who left is kept"


async def test_who_leaves_in_the_moment_that_it_is_served_gives_its_connection_back() -> None:
    async with held_pool() as (pool, target):
        pool.let.release()
        connection = await pool.take()
        (task,) = await stand(pool, 1)
        pool.give_back(connection)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert pool.take_nowait() is connection
        pool.give_back(connection)
        pool.let_all()
        await target.expect_open(2)


async def test_a_line_that_is_full_refuses_at_once() -> None:
    async with held_pool() as (pool, _):
        tasks = await stand(pool, MAX_IN_LINE)
        with pytest.raises(LinkDown, match="1024 requests wait"):
            await pool.take()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert pool.in_line == 0
        pool.let_all()
        await wait_until_async(lambda: pool.held == 0, 20, "the dials")


async def test_an_attempt_that_is_cut_while_it_waits_for_a_connection_leaves_the_line() -> None:
    async with held_pool() as (pool, _):
        policy = replaced_policy(heartbeat_ms=0.0, stream_idle_ms=100.0, max_wait_ms=150.0)
        async with in_process_gateway({"near": pool.pool}, policy=policy) as gateway:
            said = await gateway.server.talk(chat_request(BODY, (b"connection", b"close")))
        assert b"504" in said.partition(b"\r\n")[0]
        assert pool.in_line == 0
        pool.let_all()
        await wait_until_async(lambda: pool.held == 0, 20, "the dial")


async def test_what_nobody_needed_since_the_last_look_is_closed_but_for_the_spares() -> None:
    async with held_pool() as (pool, target):
        pool.let_all()
        for connection in await asyncio.gather(*(pool.take() for _ in range(10))):
            pool.give_back(connection)
        pool.close_unneeded(keep=2)
        assert pool.idle == 10, "all had been needed"
        for connection in [pool.take_nowait() for _ in range(4)]:
            assert connection is not None
            pool.give_back(connection)
        pool.close_unneeded(keep=2)
        assert pool.idle == 4 + 2
        await target.expect_open(6)
        pool.close_unneeded(keep=2)
        assert pool.idle == 2
        await target.expect_open(2)
