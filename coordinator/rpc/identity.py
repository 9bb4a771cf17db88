"""The caller's identity, from the certificate that TLS has verified."""

from __future__ import annotations

import ipaddress
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from coordinator.ca.requests import public_key_sha256
from protos.domain.errors import Unauthenticated
from protos.domain.party import PartyKind as IdentityKind
from protos.domain.party import party_of

if TYPE_CHECKING:
    from grpc import aio

    Context = aio.ServicerContext[Any, Any]

__all__ = ["Identity", "IdentityKind", "identity_of", "network_of", "peer_address", "peer_identity"]


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified caller. Its text is the actor of the audit, such as ``operator/ana``."""

    kind: IdentityKind
    name: str
    certificate_serial: int
    #: Of the key in the certificate, as the rows of operators keep it.
    public_key_sha256: bytes = b""

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


def identity_of(certificate_pem: bytes) -> Identity:
    """Return the identity that a verified certificate names. Raises: Unauthenticated."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise Unauthenticated("the client certificate names no identity") from error
    party = party_of(names.get_values_for_type(x509.UniformResourceIdentifier))
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Unauthenticated("the client certificate is for a key of another kind")
    return Identity(party.kind, party.name, certificate.serial_number, public_key_sha256(key))


def peer_identity(context: Context) -> Identity:
    """Return the caller of this RPC. Raises: Unauthenticated without a client certificate."""
    for pem in context.auth_context().get("x509_pem_cert", ()):
        return identity_of(pem)
    raise Unauthenticated("a client certificate is needed", "connect with mutual TLS")


def peer_address(context: Context) -> str:
    """Return the caller's IP address without its port; ``unknown`` for anything but IP."""
    kind, _, rest = urllib.parse.unquote(context.peer()).partition(":")
    host, _, _ = rest.rpartition(":")
    if kind not in ("ipv4", "ipv6"):
        return "unknown"
    try:
        return str(ipaddress.ip_address(host.strip("[]").partition("%")[0]))
    except ValueError:
        return "unknown"


def network_of(address: str) -> str:
    """Return the network that one party usually has: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
