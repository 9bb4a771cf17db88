"""Enrolment: exchanges a one-time token for a certificate, after pinning the CA."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc import aio
from OpenSSL import SSL

from agent.link import removal
from agent.link.channel import enrolment_channel
from agent.link.errors import rpc_error
from agent.link.identity import PENDING_KEY, Identity, save_identity
from protos.domain.errors import InvalidRequest, LinkDown, Unauthenticated
from protos.host.files import make_private_folder, write_whole
from protos.v1 import enrolment_pb2, enrolment_pb2_grpc

_TOKEN = re.compile(r"EF1\.([0-9a-f]{64})\.([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{16,128})")
_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class EnrolmentToken:
    """The parts of ``EF1.<ca-sha256>.<id>.<secret>``."""

    ca_sha256: str
    id: str
    secret: str

    def __repr__(self) -> str:
        return f"EnrolmentToken(id={self.id!r})"


def parse_token(text: str) -> EnrolmentToken:
    """Parse a token. Raises: InvalidRequest, without the token in its text."""
    match = _TOKEN.fullmatch(text.strip())
    if match is None:
        raise InvalidRequest(
            "this is no enrolment token",
            "it looks like EF1.<digest>.<id>.<secret>; make one with: edgeforge node token create",
        )
    return EnrolmentToken(*match.groups())


async def enrol(address: str, token: EnrolmentToken, folder: Path) -> Identity:
    """Enrol this host at ``address`` and save the identity in ``folder``.

    The key is on disk before the token is sent: after a lost answer, a retry with the same key
    returns the same certificate. Raises: LinkDown, Unauthenticated.
    """
    ca_pem = await asyncio.to_thread(_pinned_ca, address, token.ca_sha256)
    key = load_or_make_key(folder)
    request = enrolment_pb2.EnrolRequest(
        token_id=token.id, secret=token.secret, csr_der=signing_request(key)
    )
    async with enrolment_channel(address, ca_pem) as channel:
        stub = enrolment_pb2_grpc.EnrolmentStub(channel)
        try:
            response = await stub.Enrol(request, timeout=_TIMEOUT_S)
        except aio.AioRpcError as error:
            raise rpc_error(error) from error
    identity = identity_of(
        response.certificate_pem,
        node_id=response.node_id,
        pop_id=response.pop_id,
        fleet_address=response.fleet_address,
        fleet_id=token.ca_sha256,
    )
    save_identity(
        folder,
        identity,
        key_pem=key_pem(key),
        cert_pem=response.certificate_pem,
        ca_pem=response.ca_bundle_pem,
    )
    (folder / removal.FILE).unlink(missing_ok=True)
    return identity


def load_or_make_key(folder: Path, *, unlike: bytes = b"") -> ec.EllipticCurvePrivateKey:
    """Return the key of an unanswered request, or a new one after writing it to disk.

    ``unlike`` is the key in use: pending still, its answer has arrived, but was not tidied up.
    """
    make_private_folder(folder)
    pending = folder / PENDING_KEY
    if pending.is_file():
        kept = _read_key(pending.read_bytes())
        if kept is not None and key_pem(kept) != unlike:
            return kept
    key = ec.generate_private_key(ec.SECP256R1())
    write_whole(pending, key_pem(key))
    return key


def _read_key(pem: bytes) -> ec.EllipticCurvePrivateKey | None:
    """Return the key in ``pem``; None when it is damaged, so that another one is made."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the key as unencrypted PKCS#8."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def signing_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a CSR in DER; the coordinator ignores its subject."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edgeforge-agent")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def identity_of(
    certificate_pem: bytes, *, node_id: str, pop_id: str, fleet_address: str, fleet_id: str = ""
) -> Identity:
    """Return the identity to save beside a certificate."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    return Identity(
        node_id=node_id,
        pop_id=pop_id,
        fleet_address=fleet_address,
        not_before_unix_ms=int(certificate.not_valid_before_utc.timestamp() * 1_000),
        not_after_unix_ms=int(certificate.not_valid_after_utc.timestamp() * 1_000),
        fleet_id=fleet_id,
    )


def _pinned_ca(address: str, ca_sha256: str) -> bytes:
    """Return, in PEM, the certificate of the server's chain whose digest is ``ca_sha256``.

    The connection is not authenticated and carries no secret; only its chain is read.
    Raises: LinkDown; Unauthenticated when the server's CA is another.
    """
    host, _, port = address.rpartition(":")
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_verify(SSL.VERIFY_NONE)
    context.set_alpn_protos([b"h2"])
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT_S) as sock:
            sock.settimeout(
                None
            )  # pyOpenSSL needs a blocking socket; the kernel applies the timeout
            limit = int(_TIMEOUT_S).to_bytes(8, "little") + bytes(8)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            connection = SSL.Connection(context, sock)
            connection.set_connect_state()
            connection.do_handshake()
            chain = connection.get_peer_cert_chain(as_cryptography=True) or []
    except (OSError, SSL.Error) as error:
        raise LinkDown(
            f"no TLS connection to the coordinator at {address}: {error}",
            "check coordinator.enrolment_address and that its enrolment port is open",
        ) from error
    for certificate in chain:
        der = certificate.public_bytes(serialization.Encoding.DER)
        if hmac.compare_digest(hashlib.sha256(der).hexdigest(), ca_sha256):
            return certificate.public_bytes(serialization.Encoding.PEM)
    raise Unauthenticated(
        f"{address} is not the coordinator that made this token: its CA is another",
        "nothing was sent; check the address and for a proxy in between",
        code="ca_mismatch",
    )
