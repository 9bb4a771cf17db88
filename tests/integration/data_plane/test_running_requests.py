"""Every request in progress is visited after a change of the table, without holding the loop."""

from __future__ import annotations

import asyncio

from agent.gateway.running import RunningRequests


class _Request:
    def __init__(self) -> None:
        self.visits = 0

    def table_changed(self) -> None:
        self.visits += 1


async def test_a_change_visits_every_request_once_a_few_in_each_turn_of_the_loop() -> None:
    running, requests = RunningRequests(), [_Request() for _ in range(200)]
    for request in requests:
        running.add(request)
    running.table_changed()
    assert 0 < sum(one.visits for one in requests) < 100
    for _ in range(10):
        await asyncio.sleep(0)
    assert {one.visits for one in requests} == {1}


async def test_a_request_that_has_ended_is_visited_no_more() -> None:
    running, request = RunningRequests(), _Request()
    running.table_changed()
    running.add(request)
    running.discard(request)
    running.discard(request)
    running.table_changed()
    assert (request.visits, len(running)) == (0, 0)
