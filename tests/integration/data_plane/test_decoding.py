"""Compressed bodies of several accounts: whose is decoded next. Real threads."""

from __future__ import annotations

import asyncio
import gzip

from agent.gateway.content_encoding import BodyDecoder

BODY = gzip.compress(b"{}")


async def test_a_hundred_compressed_bodies_of_one_account_are_not_ahead_of_anothers() -> None:
    decoder = BodyDecoder(1_000)
    done: list[str] = []

    async def decode(account: str) -> None:
        assert await decoder.decode(b"gzip", BODY, account) == b"{}"
        done.append(account)

    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(decode("greedy"))
        group.create_task(decode("other"))
    assert done.index("other") < 50  # its own turn is the next; its thread may start late
    assert decoder._lines == {}


async def test_a_body_that_is_left_while_it_waits_leaves_the_line() -> None:
    decoder = BodyDecoder(1_000)
    loop = asyncio.get_running_loop()
    waiting = [loop.create_task(decoder.decode(b"gzip", BODY, "a")) for _ in range(10)]
    await asyncio.sleep(0)
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert decoder._lines == {}
    assert await decoder.decode(b"gzip", BODY, "a") == b"{}"
