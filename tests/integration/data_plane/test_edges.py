"""Clients that leave at any moment, while the disk takes its time: nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
from dataclasses import replace

from agent.clock import now_mono_ms
from agent.gateway.client_routes import render_refusal
from agent.relay.connections import ConnectionSet
from agent.relay.listener import Listener
from protos.domain.usage_record import UsageCause
from tests.integration.data_plane.test_metering import (
    ASK_STREAM,
    ASK_USAGE,
    ASK_WHOLE,
    ENDED,
    until,
    world,
)
from tests.support.served import LIMITS, echo
from tests.support.stepwise_engine import end, token, whole

CLIENTS = 60


async def test_clients_that_leave_at_any_moment_leave_one_record_each_and_nothing_else() -> None:
    draw = random.Random(7)
    async with world(held=True) as w:
        deciding = asyncio.Event()

        async def engine() -> None:
            """Answer every request, after a moment, in pieces."""
            served = 0
            while not deciding.is_set():
                await asyncio.sleep(0.001)
                while served < len(w.engine.requests):
                    asked, served = w.engine.requests[served], served + 1
                    stream = w.engine._streams[served - 1]
                    if asked.get("stream"):
                        pieces = [token("a", 1), token("b", 2), end()]
                        asyncio.get_running_loop().create_task(say(stream, pieces))
                    else:
                        stream.write(
                            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                            b"content-length: %d\r\n\r\n%b" % (len(whole()), whole())
                        )

        async def say(stream: asyncio.StreamWriter, pieces: list[bytes]) -> None:
            stream.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                b"transfer-encoding: chunked\r\n\r\n"
            )
            for piece in pieces:
                stream.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await asyncio.sleep(draw.random() * 0.004)
            stream.write(ENDED)

        async def disk() -> None:
            while not deciding.is_set():
                await asyncio.sleep(draw.random() * 0.01)
                w.meter.let_durable()

        places = asyncio.Semaphore(12)  # the port takes 16 connections without a known key

        async def client() -> None:
            async with places:
                await ask_and_leave()

        async def ask_and_leave() -> None:
            ask = draw.choice([ASK_STREAM, ASK_USAGE, ASK_WHOLE, ASK_WHOLE * 2])
            one = await w.client(ask)
            await asyncio.sleep(draw.random() * 0.03)
            one.writer.transport.abort() if draw.random() < 0.5 else one.writer.write_eof()
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(one.reader.read(), 10)

        tasks = [asyncio.create_task(one()) for one in (engine, disk)]
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        await until(lambda: w.port.stats.in_flight == 0, "every request ends")
        w.meter.let_durable()
        deciding.set()
        await asyncio.gather(*tasks)
        w.meter.let_durable()
        await asyncio.sleep(0)
        records, ends = w.meter.records, w.meter.ends
        complete = {n for n, one in enumerate(records, 1) if one.cause is UsageCause.COMPLETE}
        await until(lambda: complete <= set(ends), "each complete record has its end")
        assert set(ends) == complete
        assert len({one.trace_id for one in records}) == len(records)
        assert len(w.port.gateway.running) == 0


async def test_connections_that_end_before_they_are_opened_leave_nothing_behind() -> None:
    """All are accepted in one turn of the loop: most end for others before their task began."""
    connections = ConnectionSet(render_refusal, replace(LIMITS, max_connections=4), now_mono_ms)
    listener = Listener("client.port", connections, echo)
    await listener.start("127.0.0.1", 0, None)
    clients = []
    for _ in range(50):
        clients.append(client := socket.socket())
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            client.connect(("127.0.0.1", listener.port))
    await until(lambda: connections.accepted == len(clients), "all are accepted")
    await until(lambda: not listener._opening, "all are opened or given up")
    assert connections.shares.total <= 4
    assert len(connections.live) == connections.shares.total
    for client in clients:
        client.close()
    await listener.stop()
    gc.collect()  # a socket that nobody closed fails the test
