"""A canary asked of an engine over HTTP, as the coordinator asks it through an agent."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from aiohttp import web

from agent.core.engine_status import EngineEndpoint
from agent.engine.canary import MAX_TOKENS, PROMPT, ask_canary
from protos.domain.errors import DeadlineExceeded, EngineFailed, InvalidRequest


class Engine:
    """Streams what a test sets."""

    def __init__(self) -> None:
        self.lines = [
            b'data: {"choices": [{"text": "one"}]}\n\n',
            b'data: {"choices": [{"text": " two"}]}\n\n',
            b'data: {"choices": [], "usage": {"completion_tokens": 3}}\n\n',
            b"data: [DONE]\n\n",
        ]
        self.status = 200
        self.silent = False
        self.asked: list[dict] = []

    async def complete(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.json())
        response = web.StreamResponse(status=self.status)
        await response.prepare(request)
        for line in self.lines:
            await response.write(line)
        if self.silent:
            await asyncio.sleep(3_600)
        return response


@pytest.fixture
async def engine():
    one = Engine()
    app = web.Application()
    app.router.add_post("/v1/completions", one.complete)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    one.port = runner.addresses[0][1]
    yield one
    await runner.cleanup()


async def ask(engine, *, prompt="", max_tokens=0, timeout_ms=5_000.0, embeds=False, step_ms=10.0):
    endpoint = EngineEndpoint("served", None, "127.0.0.1", engine.port, False, True, embeds)
    ticks = itertools.count(0.0, step_ms)
    return await ask_canary(endpoint, prompt, max_tokens, timeout_ms, lambda: next(ticks))


async def test_an_answer_and_its_speed(engine):
    found = await ask(engine)
    assert (found.text, found.tokens, found.first_token_ms) == ("one two", 3, 10.0)
    assert found.tokens_per_s == 200.0
    (asked,) = engine.asked
    assert (asked["prompt"], asked["temperature"], asked["model"]) == (PROMPT, 0, "served")


async def test_an_engine_that_answers_without_a_token_has_failed(engine):
    engine.lines = [b"data: [DONE]\n\n"]
    with pytest.raises(EngineFailed, match="without a token"):
        await ask(engine)


@pytest.mark.parametrize("line", [b"data: {\n\n", b"x" * 300_000])
async def test_an_engine_that_streams_something_else_has_failed(engine, line):
    engine.lines = [line]
    with pytest.raises(EngineFailed):
        await ask(engine)


async def test_an_engine_that_refuses_has_failed(engine):
    engine.status = 500
    with pytest.raises(EngineFailed, match="answers 500"):
        await ask(engine)


async def test_an_engine_that_stands_still_is_given_up(engine):
    engine.silent = True
    with pytest.raises(DeadlineExceeded):
        await ask(engine, timeout_ms=200.0)


@pytest.mark.parametrize(
    "fields", [{"max_tokens": MAX_TOKENS + 1}, {"prompt": "x" * 5_000}, {"embeds": True}]
)
async def test_what_no_canary_is(engine, fields):
    with pytest.raises(InvalidRequest):
        await ask(engine, **fields)
    assert engine.asked == []
