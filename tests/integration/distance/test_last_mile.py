"""The last mile as the server's kernel sees it, over a distance that its own packets travel."""

from __future__ import annotations

import asyncio

import pytest

from agent.relay.messages import Request
from agent.relay.server import ServerConnection
from agent.relay.tcp import last_mile_ms
from tests.support.packet_delay import ADDRESS_A, TwoHosts, two_hosts, why_not
from tests.support.served import served

MISSING = why_not()


def measured_ms(hosts: TwoHosts) -> float:
    """What the server in one namespace is told of a client in the other."""
    server = hosts.start(hosts.a, "-m", "tests.support.last_mile_server", ADDRESS_A)
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        client = hosts.start(hosts.b, "-m", "tests.support.last_mile_client", ADDRESS_A, port)
        answer, _ = client.communicate(timeout=60)
        return float(answer)
    finally:
        server.communicate(timeout=20)


@pytest.mark.skipif(bool(MISSING), reason=MISSING or "-")
def test_the_kernel_tells_the_round_trip_of_a_distant_client() -> None:
    with two_hosts(one_way_ms=60.0) as hosts:
        told_ms = measured_ms(hosts)
    assert told_ms >= 119.0, "never less than the distance"
    assert told_ms < 240.0, "and not far more"


async def test_on_this_machine_the_last_mile_is_next_to_nothing() -> None:
    seen: list[float] = []

    async def look(request: Request, client: ServerConnection) -> None:
        seen.append(last_mile_ms(client.transport))
        client.respond(request, 200, [], b"")

    async with served(look) as server:
        await server.talk(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    (told_ms,) = seen
    assert 0.0 < told_ms < 50.0


def test_a_connection_that_is_no_tcp_has_no_last_mile() -> None:
    assert last_mile_ms(None) == 0.0
    transport = asyncio.Transport()
    assert last_mile_ms(transport) == 0.0
