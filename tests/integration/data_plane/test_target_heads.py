"""What a target's response head may say to a client: nothing but what was asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from agent.relay.messages import Header, whole_response
from agent.relay.upstream import Address
from agent.relay.upstream_pool import UpstreamPool
from tests.support.in_process_gateway import chat_request, in_process_gateway, table

ASK_STREAM = chat_request()
ASK_WHOLE = chat_request(b'{"model":"small","messages":[]}')
EVENTS = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: [DONE]\n\n'
WHOLE = b'{"id":"x","choices":[]}'
HTML = b"<script>alert(1)</script>"
EVENT_STREAM, JSON = (b"content-type", b"text/event-stream"), (b"content-type", b"application/json")
PAGE = (b"content-type", b"text/html")


@contextlib.asynccontextmanager
async def target(status: int, headers: list[Header], body: bytes) -> AsyncIterator[UpstreamPool]:
    """Connections to a target that gives every request this answer."""

    class _Target(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self._transport = transport

        def data_received(self, data: bytes) -> None:
            if b"POST " in data:
                self._transport.write(whole_response(status, headers, body, keep_alive=True))

    server = await asyncio.get_running_loop().create_server(_Target, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    address = Address("target", b"target", host="127.0.0.1", port=port)
    pool = UpstreamPool(address, max_idle=4, connect_timeout_ms=5_000.0)
    try:
        yield pool
    finally:
        pool.close()
        server.close()


def head_of(answer: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status_line, *lines = head.split(b"\r\n")
    return int(status_line.split(b" ")[1]), dict(one.split(b": ", 1) for one in lines), body


def closing(request: bytes) -> bytes:
    return request.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)


UNFIT = {
    "page": (200, [PAGE], HTML),
    "none": (200, [], HTML),
    "two": (200, [EVENT_STREAM, PAGE], HTML),
    "elsewhere": (302, [PAGE, (b"location", b"http://h/")], HTML),
    "nothing": (204, [], b""),
    "strange": (999, [PAGE], HTML),
}


@pytest.mark.parametrize("unfit", UNFIT)
@pytest.mark.parametrize("ask", [ASK_STREAM, ASK_WHOLE], ids=["stream", "whole"])
async def test_a_targets_content_type_never_reaches_a_client_and_another_content_fails_the_target(
    unfit: str, ask: bytes
) -> None:
    async with (
        target(*UNFIT[unfit]) as pool,
        in_process_gateway({"near": pool}) as gateway,
    ):
        status, headers, body = head_of(await gateway.server.talk(closing(ask)))
    assert status == 502
    assert headers[b"content-type"] == b"application/json"
    assert b"location" not in headers
    assert b"script" not in body
    (attempt,) = gateway.records.latest(1)[0].attempts
    assert (attempt.outcome, "unexpected" in attempt.detail) == ("engine_error", True)


@pytest.mark.parametrize(
    ("ask", "kind", "other_kind"),
    [(ASK_STREAM, JSON, EVENT_STREAM), (ASK_WHOLE, EVENT_STREAM, JSON)],
    ids=["stream", "whole"],
)
async def test_a_target_that_answers_in_the_other_form_is_replaced(
    ask: bytes, kind: Header, other_kind: Header
) -> None:
    bodies = {JSON: WHOLE, EVENT_STREAM: EVENTS}
    async with (
        target(200, [kind], bodies[kind]) as near,
        target(200, [other_kind], bodies[other_kind]) as far,
        in_process_gateway(
            {"near": near, "far": far}, table({"near": 20.0, "far": 60.0})
        ) as gateway,
    ):
        status, headers, _ = head_of(await gateway.server.talk(closing(ask)))
    assert (status, headers[b"x-edgeforge-node"]) == (200, b"far")
    outcomes = [str(one.outcome) for one in gateway.records.latest(1)[0].attempts]
    assert outcomes == ["engine_error", "answered"]


async def test_only_expected_headers_with_short_values_are_passed_on() -> None:
    given = [
        EVENT_STREAM,
        (b"cache-control", b"no-cache"),
        (b"cache-control", b"public, max-age=31536000"),
        (b"retry-after", b"9" * 5_000),
        (b"set-cookie", b"a=b"),
        (b"access-control-allow-origin", b"*"),
        (b"x-edgeforge-node", b"another"),
        (b"server-timing", b"x;dur=1"),
    ]
    async with target(200, given, EVENTS) as pool, in_process_gateway({"near": pool}) as gateway:
        answer = await gateway.server.talk(closing(ASK_STREAM))
    _, headers, _ = head_of(answer)
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert answer.count(b"cache-control") == 1
    assert headers[b"cache-control"] == b"no-cache"
    assert headers[b"x-edgeforge-node"] == b"near"
    for name in (b"retry-after", b"set-cookie", b"access-control-allow-origin"):
        assert name not in headers


async def test_a_targets_error_page_becomes_an_error_in_our_words() -> None:
    async with target(404, [PAGE], HTML) as pool, in_process_gateway({"near": pool}) as gateway:
        status, headers, body = head_of(await gateway.server.talk(closing(ASK_STREAM)))
    assert (status, headers[b"content-type"]) == (404, b"application/json")
    assert b"script" not in body
