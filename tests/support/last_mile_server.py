"""A relay's server that answers every request with the round trip that the kernel reports.

    python -m tests.support.last_mile_server HOST

Prints its port once it listens, and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import sys

from agent.clock import now_mono_ms
from agent.formats.registry import render_error
from agent.relay.connections import ConnectionSet
from agent.relay.listener import Listener
from agent.relay.messages import Request
from agent.relay.server import ServerConnection
from agent.relay.tcp import last_mile_ms
from tests.support.served import LIMITS


async def tell(request: Request, client: ServerConnection) -> None:
    client.respond(request, 200, [], b"%.3f" % last_mile_ms(client.transport))


async def serve(host: str) -> None:
    listener = Listener("client.port", ConnectionSet(render_error, LIMITS, now_mono_ms), tell)
    await listener.start(host, 0, None)
    print(listener.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await listener.stop()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
