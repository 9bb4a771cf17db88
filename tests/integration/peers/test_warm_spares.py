"""Warm connections to a peer, over real TLS: what a request finds, counted in handshakes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent.core.live import LiveState
from agent.peers.pool import PeerPool
from agent.relay.upstream import UpstreamConnection
from agent.relay.upstream_pool import UpstreamPool
from protos.domain.resources import ReplicaState
from tests.support import fleets
from tests.support.certificates import p256_key, private_pem, self_signed_pem
from tests.support.waiting import wait_until_async

NODE = "iad-1"


@dataclass
class Peer:
    """The peer's port, and our warm connections to it."""

    warm: PeerPool
    upstream: UpstreamPool
    handshakes: int = 0
    open: int = 0

    async def settled(self) -> None:
        """Wait until two spares stand ready again."""
        await wait_until_async(lambda: self.upstream.idle >= 2, 20, "two warm spares")

    def place(self) -> UpstreamConnection:
        """Take a connection as a request does; it must not have to dial."""
        connection = self.upstream.take_nowait()
        assert connection is not None, "a request would have paid a handshake"
        return connection


@contextlib.asynccontextmanager
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    key = p256_key()
    cert = tmp_path / "peer.pem"
    cert.write_bytes(self_signed_pem(key, ()) + private_pem(key))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(cert)
    dialling = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    dialling.check_hostname, dialling.verify_mode = False, ssl.CERT_NONE  # not what is tested

    async def stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.handshakes += 1
        found.open += 1
        with contextlib.suppress(ConnectionError):  # an abort is a reset
            await reader.read()
        writer.close()
        found.open -= 1

    server = await asyncio.start_server(stay, "127.0.0.1", 0, ssl=serving)
    port = server.sockets[0].getsockname()[1]
    node = replace(fleets.node(NODE, "IAD"), peer_host="127.0.0.1", peer_port=port)
    view = fleets.view(
        fleets.pop("IAD"), fleets.model(), node, fleets.replica(NODE, state=ReplicaState.READY)
    )
    config: Any = SimpleNamespace(max_warm_targets=64, warm_spares=2, source_address="")
    tls: Any = SimpleNamespace(client=lambda: dialling, check_node=lambda node_id, transport: None)
    warm = PeerPool("gru-1", config, tls, lambda: view, LiveState(), lambda: 0.0)
    upstream = warm.pool_for(NODE)
    assert upstream is not None
    found = Peer(warm, upstream)
    warm.keep_warm()
    try:
        yield found
    finally:
        await warm.close()
        server.close()
        await wait_until_async(lambda: found.open == 0, 20, "every connection to be closed")


async def test_neither_a_placement_nor_an_abort_costs_a_request_its_handshake(
    tmp_path: Path,
) -> None:
    async with peer(tmp_path) as target:
        await target.settled()
        for number in range(10):
            first, second = target.place(), target.place()
            first.abort()
            if number % 2:
                second.abort()
            else:
                target.upstream.give_back(second)
            await target.settled()


async def test_connections_that_come_back_are_used_again_and_nothing_is_dialled(
    tmp_path: Path,
) -> None:
    async with peer(tmp_path) as target:
        await target.settled()
        taken = target.place()
        await target.settled()
        target.upstream.give_back(taken)
        dials = target.upstream.dials
        for _ in range(50):
            target.upstream.give_back(target.place())
            await asyncio.sleep(0)
        assert target.upstream.dials == dials == 3
        await wait_until_async(lambda: target.handshakes == dials, 20, "as many handshakes")


async def test_who_is_no_target_any_more_is_not_dialled_again(tmp_path: Path) -> None:
    async with peer(tmp_path) as target:
        await target.settled()
        dials = target.upstream.dials
        target.warm.reset()  # as when the identity was renewed
        assert target.upstream.take_nowait() is None
        assert target.upstream.dials == dials
