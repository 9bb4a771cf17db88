"""An account that is suspended while a stream of its own runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent.relay.upstream_pool import Address, UpstreamPool
from protos.domain.customers import Account, AccountState
from protos.domain.fleet_view import with_changes
from tests.support.in_process_gateway import chat_request, in_process_gateway, table

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@asynccontextmanager
async def held_engine(go_on: asyncio.Event) -> AsyncIterator[UpstreamPool]:
    """An engine that sends one token, and the rest once ``go_on`` is set."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + chunk(TOKEN))
        await go_on.wait()
        writer.write(chunk(TOKEN) + chunk(USAGE) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    address = Address("engine", b"engine", host="127.0.0.1", port=port)
    pool = UpstreamPool(address, max_idle=4, connect_timeout_ms=5_000.0)
    try:
        yield pool
    finally:
        go_on.set()
        pool.close()
        server.close()


async def test_an_account_suspended_during_a_stream_keeps_it_and_gets_no_other() -> None:
    go_on = asyncio.Event()
    async with held_engine(go_on) as pool, in_process_gateway({"near": pool}) as gateway:
        reader, writer = await gateway.server.connect()
        writer.write(chat_request())
        await asyncio.wait_for(reader.readuntil(b'"content":"a"'), 20)
        suspended = Account("acme", state=AccountState.SUSPENDED)
        now = with_changes(table({"near": 20.0}), (), (suspended,))
        gateway.gateway.state.view = lambda: now
        gateway.gateway.running.table_changed()

        other_reader, other_writer = await gateway.server.connect()
        other_writer.write(chat_request())
        head = await asyncio.wait_for(other_reader.readuntil(b"\r\n\r\n"), 20)
        assert head.startswith(b"HTTP/1.1 403 ")
        error = json.loads(await asyncio.wait_for(other_reader.readuntil(b"}}"), 20))["error"]
        assert error["code"] == "account_suspended"

        go_on.set()
        rest = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 20)
        assert b"[DONE]" in rest
        assert b"event: error" not in rest
        for one in (writer, other_writer):
            one.close()
            await one.wait_closed()
