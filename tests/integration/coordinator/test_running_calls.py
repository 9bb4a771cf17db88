"""Calls that end when their caller's rights change."""

from __future__ import annotations

import asyncio

import pytest

from coordinator.rpc.running_calls import RunningCalls
from protos.domain.errors import Forbidden


async def waiting(calls: RunningCalls, name: str, started: asyncio.Event) -> None:
    with calls.running(name):
        started.set()
        await asyncio.Event().wait()


async def test_the_calls_of_a_revoked_caller_end_with_a_reason_and_others_go_on():
    calls = RunningCalls()
    started = [asyncio.Event(), asyncio.Event(), asyncio.Event()]
    names = ("ana", "ana", "bo")
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_outcome(waiting(calls, name, event)))
            for name, event in zip(names, started, strict=True)
        ]
        for event in started:
            await event.wait()
        calls.end("ana")
        assert await tasks[0] == await tasks[1] == "Forbidden"
        assert not tasks[2].done()
        calls.end("bo")
    assert tasks[2].result() == "Forbidden"


async def test_the_call_that_asks_for_it_is_answered():
    calls = RunningCalls()
    with calls.running("ana"):
        calls.end("ana")
        await asyncio.sleep(0)


async def test_a_call_that_its_client_gives_up_is_cancelled_and_not_refused():
    calls, started = RunningCalls(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(waiting(calls, "ana", started))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    calls.end("ana")


async def _outcome(call) -> str:
    try:
        await call
    except Forbidden:
        return "Forbidden"
    return "done"
