"""The client port's certificate: renewed without a restart, a bad one never taken."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from agent.gateway.tls import ClientCertificate
from agent.relay.connections import ConnectionSet
from agent.relay.listener import Listener
from agent.relay.messages import Request
from agent.relay.server import ServerConnection
from protos.domain.connection_shares import MIN_STRANGERS
from protos.domain.errors import ConfigInvalid
from tests.support.certificates import p256_key, private_pem
from tests.support.served import LIMITS, echo

ASK = b"POST /x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\nhi"


def write_pair(folder: Path, name: str) -> None:
    """Write a self-signed certificate for ``name`` and its key."""
    key = p256_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=36_500))
        .sign(key, hashes.SHA256())
    )
    (folder / "key.pem").write_bytes(private_pem(key))
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


class Port:
    """A TLS port and its certificate."""

    def __init__(
        self,
        certificate: ClientCertificate,
        port: int,
        folder: Path,
        connections: ConnectionSet,
    ) -> None:
        self.certificate = certificate
        self.connections = connections
        self.port = port
        self.folder = folder

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context)

    async def name(self) -> str:
        """The name in the certificate that a new client is shown."""
        _, writer = await self.connect()
        secured = writer.get_extra_info("ssl_object")
        shown = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        (common,) = shown.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(common.value)


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[Port]:
    write_pair(tmp_path, "first")
    certificate = ClientCertificate(tmp_path / "cert.pem", tmp_path / "key.pem")

    async def handler(request: Request, client: ServerConnection) -> None:
        await echo(request, client)

    connections = ConnectionSet(lambda _error, _path: (500, [], b""), LIMITS, lambda: 1.0)
    listener = Listener("client.port", connections, handler)
    await listener.start("127.0.0.1", 0, certificate.context)
    yield Port(certificate, listener.port, tmp_path, connections)
    await listener.stop()


async def test_a_renewed_certificate_is_shown_to_new_clients_and_running_ones_go_on(
    port: Port,
) -> None:
    reader, writer = await port.connect()
    assert await port.name() == "first"
    write_pair(port.folder, "second")
    assert port.certificate.reload_if_changed()
    assert await port.name() == "second"
    writer.write(ASK)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()
    assert not port.certificate.reload_if_changed(), "nothing new"


async def test_a_broken_certificate_is_not_taken_and_said_in_the_log(
    port: Port, caplog: pytest.LogCaptureFixture
) -> None:
    (port.folder / "cert.pem").write_text("not a certificate")
    with caplog.at_level(logging.ERROR):
        assert not port.certificate.reload()
    assert "not reloaded" in caplog.text
    assert await port.name() == "first"


async def test_a_certificate_without_its_key_is_not_taken(port: Port) -> None:
    (port.folder / "key.pem").write_bytes(private_pem(p256_key()))
    assert not port.certificate.reload()
    assert await port.name() == "first"


def test_an_agent_does_not_start_with_a_bad_certificate(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("junk")
    (tmp_path / "key.pem").write_text("junk")
    with pytest.raises(ConfigInvalid) as caught:
        ClientCertificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    assert "client.cert_file" in caught.value.problems[0]


async def test_connects_that_never_begin_a_handshake_do_not_lock_others_out(port: Port) -> None:
    held = [
        await asyncio.open_connection("127.0.0.1", port.port, local_addr=("127.0.0.66", 0))
        for _ in range(4 * LIMITS.max_connections)
    ]
    assert await port.name() == "first"
    shares = port.connections.shares
    assert shares.total <= MIN_STRANGERS, "counted before their handshake"
    for _, writer in held:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_a_refusal_over_tls_is_read_by_a_client_that_goes_on_sending(port: Port) -> None:
    reader, writer = await port.connect()
    writer.write(
        b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 4096000\r\n\r\n" + bytes(4_000_000)
    )
    assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 500")
    writer.close()
