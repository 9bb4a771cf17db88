"""An agent as a client of a peer, over real TLS: whose certificate it sends requests to."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest

from agent.peers.tls import PeerTls
from agent.relay.upstream import Address
from agent.relay.upstream_pool import UpstreamPool
from coordinator.ca.authority import CertificateAuthority
from protos.domain.errors import LinkDown
from tests.support.certificates import fleet_signed_pem, p256_key, private_pem, request_der
from tests.support.stores import SetClock

NODE_URI, DNS = "edgeforge://node/iad-1", "iad-1.node.edgeforge.internal"


def dialler(folder: Path, authority: CertificateAuthority) -> PeerTls:
    """Write the identity of the agent that dials, and return its contexts."""
    key, file, ca_file = p256_key(), folder / "dialler.pem", folder / "ca.pem"
    issued = authority.issue_node("gru-1", request_der(key))
    file.write_bytes(private_pem(key) + issued.pem)
    ca_file.write_bytes(authority.bundle_pem)

    def use_identity(context: ssl.SSLContext) -> None:
        context.load_cert_chain(file)
        context.load_verify_locations(ca_file)

    return PeerTls(use_identity)


async def dial(folder: Path, uris: tuple[str, ...], dns_names: tuple[str, ...]) -> None:
    """Dial iad-1 where a server answers with these names. Raises: LinkDown."""
    authority = CertificateAuthority.create(folder / "ca", now_unix_ms=SetClock())
    key = p256_key()
    signed = fleet_signed_pem((folder / "ca" / "authority.pem").read_bytes(), key, uris, dns_names)
    (folder / "server.pem").write_bytes(signed + private_pem(key))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / "server.pem")
    ended = asyncio.Event()

    async def stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b"", "a request was sent"
        writer.close()
        ended.set()

    tls = dialler(folder, authority)
    server = await asyncio.start_server(stay, "127.0.0.1", 0, ssl=serving)
    port = server.sockets[0].getsockname()[1]
    pool = UpstreamPool(
        Address("node iad-1", b"iad-1", host="127.0.0.1", port=port, tls=True, server_name=DNS),
        max_idle=1,
        connect_timeout_ms=20_000.0,
        tls=tls.client,
        check=lambda transport: tls.check_node("iad-1", transport),
    )
    try:
        (await pool.dial()).abort()
        await asyncio.wait_for(ended.wait(), 20)
    finally:
        server.close()


async def test_the_node_that_was_dialled_is_sent_requests(tmp_path: Path) -> None:
    await dial(tmp_path, (NODE_URI,), (DNS,))


@pytest.mark.parametrize(
    ("uris", "problem"),
    [
        ((NODE_URI, "edgeforge://node/scl-1"), "exactly one"),
        ((NODE_URI, "edgeforge://operator/ana"), "exactly one"),
        (("edgeforge://node/scl-1",), "'scl-1'"),
        (("edgeforge://operator/ana",), "operator/ana"),
        ((), "exactly one"),
    ],
)
async def test_a_certificate_with_two_names_or_another_is_sent_nothing_though_its_dns_name_is_right(
    tmp_path: Path, uris: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(LinkDown, match=problem):
        await dial(tmp_path, uris, (DNS, "scl-1.node.edgeforge.internal"))
