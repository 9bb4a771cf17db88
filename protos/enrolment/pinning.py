"""The coordinator's authority, known by the digest in a token."""

from __future__ import annotations

import hashlib
import hmac
import socket

from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL

from protos.domain.addresses import split_address
from protos.domain.errors import InvalidRequest, LinkDown, Unauthenticated

_TIMEOUT_S = 15.0


def pinned_ca(address: str, ca_sha256: str, hint: str) -> bytes:
    """Return, in PEM, the certificate of the server's chain whose digest is ``ca_sha256``.

    The connection is not authenticated and carries no secret; only its chain is read.
    Raises: InvalidRequest; LinkDown with ``hint``; Unauthenticated when the server's CA is another.
    """
    parts = split_address(address)
    if parts is None:
        raise InvalidRequest(f"{address[:80]!r} is not host:port")
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_verify(SSL.VERIFY_NONE)
    context.set_alpn_protos([b"h2"])
    try:
        with socket.create_connection(parts, timeout=_TIMEOUT_S) as sock:
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
            f"no TLS connection to the coordinator at {address}: {error}", hint
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
