"""What every response carries, made by a handler or not: its request's id, and CORS."""

from __future__ import annotations

import asyncio

import pytest

from agent.gateway.cors import Cors
from agent.relay.messages import Request
from agent.relay.server import ServerConnection
from tests.support.served import served

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
APP = b"origin: https://app.example.com\r\n"
CORS = Cors(["https://app.example.com"])
SERVED = b"connection: close\r\ncontent-length: 2\r\n\r\n{}"

#: Requests that are served, and those that are refused before a handler begins.
ENDINGS = {
    "200": (SERVED, 200, {}),
    "400": (b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400, {}),
    "408": (b"content-length: 9\r\n\r\n{}", 408, {"body_timeout_ms": 100.0}),
    "413": (b"content-length: 9000\r\n\r\n", 413, {}),
    "431": (b"x: " + b"a" * 3_000 + b"\r\n\r\n", 431, {}),
}


def headers_of(answer: bytes) -> dict[bytes, bytes]:
    lines = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return dict(line.split(b": ", 1) for line in lines)


@pytest.mark.parametrize("ending", ENDINGS)
async def test_every_answer_has_a_request_id_refusals_before_a_handler_included(
    ending: str,
) -> None:
    rest, status, limits = ENDINGS[ending]
    ids = set()
    async with served(**limits) as server:
        for _ in range(2):
            answer = await server.talk(HEAD + rest)
            assert int(answer.split(b" ", 2)[1]) == status
            headers = headers_of(answer)
            assert len(headers[b"x-request-id"]) == 32
            assert headers[b"x-request-id"] == headers[b"request-id"]
            assert headers[b"x-request-id"] == headers[b"x-edgeforge-trace-id"]
            ids.add(headers[b"x-request-id"])
    assert len(ids) == 2


async def test_the_handler_knows_the_id_that_its_client_is_given() -> None:
    seen = []

    async def note(request: Request, client: ServerConnection) -> None:
        seen.append((request.trace_id, request.client_request_id))
        client.respond(request, 200, [], b"")

    async with served(note) as server:
        headers = headers_of(await server.talk(HEAD + b"X-Request-Id: mine\r\n" + SERVED))
    assert seen == [(headers[b"x-request-id"].decode(), "mine")]


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_page_of_an_allowed_origin_may_read_every_answer(ending: str) -> None:
    rest, status, limits = ENDINGS[ending]
    async with served(cors_headers=CORS.headers_for, **limits) as server:
        answer = await server.talk(HEAD + APP + rest)
    assert int(answer.split(b" ", 2)[1]) == status
    headers = headers_of(answer)
    assert headers[b"access-control-allow-origin"] == b"https://app.example.com"
    assert headers[b"vary"] == b"origin"
    assert b"x-request-id" in headers[b"access-control-expose-headers"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("origin", [b"", b"origin: https://evil.test\r\n", b"origin: null\r\n"])
async def test_no_other_page_may_read_any_answer(ending: str, origin: bytes) -> None:
    rest, _, limits = ENDINGS[ending]
    async with served(cors_headers=CORS.headers_for, **limits) as server:
        answer = await server.talk(HEAD + origin + rest)
    assert b"access-control" not in answer


async def test_without_configured_origins_no_page_may_read_any_answer() -> None:
    async with served() as server:
        assert b"access-control" not in await server.talk(HEAD + APP + SERVED)


async def test_head_is_answered_without_a_body_and_its_connection_goes_on() -> None:
    asked = b"HEAD /health HTTP/1.1\r\nhost: x\r\n\r\nGET /next HTTP/1.1\r\nhost: x\r\n"
    async with served() as server:
        answer = await asyncio.wait_for(server.talk(asked + b"connection: close\r\n\r\n"), 20)
    first, second = answer.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert first.endswith(b"\r\n\r\n")
    assert b"content-length: 8\r\n" in first
    assert second.endswith(b"/next ")
