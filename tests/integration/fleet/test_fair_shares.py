"""One tenant's streams fill an engine; another tenant has its share of it all the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import Fleet
from tests.support.tenants import Tenant, add_tenant, own_tenant
from tests.support.waiting import wait_until, wait_until_async

PLACES = 8
GREEDY_STREAMS = 200
#: A stream of the greedy tenant holds its place for a second.
TOKENS, TOKEN_DELAY_MS = 20, 50


@pytest.fixture(scope="module")
def shared(own_fleet: Fleet) -> Iterator[tuple[Fleet, Tenant, Tenant]]:
    """IAD's engine with eight places; a greedy tenant, and one with a strict deployment."""
    fleet = own_fleet
    other = add_tenant(fleet, "strict", "--strict", "--budget-ms", "1000", "--sla", "realtime")
    fleet.configure("iad-1", "engine", max_parallel=PLACES)
    for agent in fleet.agents():
        wait_until(lambda agent=agent: agent.chat().status == 200, 30, f"{agent.node} to answer")
    return fleet, own_tenant(fleet), other


@pytest.mark.parametrize("node", ["iad-1", "gru-1"])
def test_1500_streams_of_one_tenant_leave_anothers_strict_deployment_answering(
    shared: tuple[Fleet, Tenant, Tenant], engine: FakeEngineProcess, node: str
) -> None:
    """200 of them on eight places, at the engine's own agent and at another one."""
    fleet, greedy, strict = shared
    engine.control(tokens=TOKENS, token_delay_ms=TOKEN_DELAY_MS)
    url = fleet.agent(node).url

    async def compete() -> None:
        crowd = asyncio.create_task(greedy.keep_streaming(url, GREEDY_STREAMS, tokens=TOKENS))
        try:
            full = lambda: greedy.statuses[200] >= 2 * PLACES  # noqa: E731
            await wait_until_async(full, 60, "the engine to be full")
            for _ in range(10):
                assert await strict.stream(url, tokens=4) == 200
        finally:
            crowd.cancel()
            await asyncio.gather(crowd, return_exceptions=True)

    strict.first_tokens_s.clear()
    greedy.statuses.clear()
    asyncio.run(compete())
    assert max(strict.first_tokens_s) < 1.0
    assert engine.running() <= PLACES + PLACES // 2, "what exceeds the places waits in the agent"


def test_two_tenants_of_one_service_level_share_an_engine_within_a_second(
    shared: tuple[Fleet, Tenant, Tenant], engine: FakeEngineProcess
) -> None:
    fleet, greedy, _ = shared
    second = add_tenant(fleet, "second", "--sla", "interactive", "--budget-ms", "5000")
    engine.control(tokens=TOKENS, token_delay_ms=TOKEN_DELAY_MS)
    url = fleet.agent("iad-1").url

    async def compete() -> float:
        running = [asyncio.create_task(greedy.keep_streaming(url, GREEDY_STREAMS, tokens=TOKENS))]
        try:
            await wait_until_async(lambda: bool(greedy.tokens_s), 60, "the first tokens")
            began_s = time.monotonic()
            running.append(asyncio.create_task(second.keep_streaming(url, 20, tokens=TOKENS)))
            await wait_until_async(lambda: time.monotonic() > began_s + 5.0, 60, "five seconds")
            return began_s
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    greedy.tokens_s.clear()
    began_s = asyncio.run(compete())
    window = began_s + 1.0, began_s + 5.0
    got = second.tokens_between(*window)
    assert got / (got + greedy.tokens_between(*window)) > 0.3
    assert min(second.first_tokens_s) < 1.0


def test_an_accounts_limits_hold_at_every_agent_within_two_seconds_and_for_no_other_account(
    shared: tuple[Fleet, Tenant, Tenant], engine: FakeEngineProcess
) -> None:
    fleet, _, strict = shared
    limits = ("account", "limits", "strict", "--requests-per-minute")
    fleet.edgeforge(*limits, "6")
    body = {"model": strict.deployment, "messages": [{"role": "user", "content": "hello"}]}
    key = {"authorization": f"Bearer {strict.api_key}"}
    for agent in fleet.agents():
        answers = [agent.send(body, headers=key)]
        wait_until(
            lambda agent=agent, answers=answers: (
                answers.append(agent.send(body, headers=key)) or answers[-1].status == 429
            ),
            30,
            f"{agent.node} to enforce the limit",
        )
        refused = answers[-1]
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["x-ratelimit-limit-requests"] == "6"
        assert agent.chat().status == 200
    fleet.edgeforge(*limits, "0")
    for agent in fleet.agents():
        unlimited = lambda agent=agent: agent.send(body, headers=key).status == 200  # noqa: E731
        wait_until(unlimited, 2, f"{agent.node} to know that the limit is gone")


def test_2048_prompts_of_8_answers_are_not_one_request(
    shared: tuple[Fleet, Tenant, Tenant], engine: FakeEngineProcess
) -> None:
    fleet, _, _ = shared
    body = {"model": fleet.model, "prompt": ["a"] * 2_048, "n": 8}
    for agent in fleet.agents():
        answer = agent.send(body, path="/v1/completions")
        assert answer.status == 400
        assert "16384 sequences" in answer.json()["error"]["message"]
    assert not [one for one in engine.requests() if one["path"] == "/v1/completions"]
