"""The caller's identity, from the certificate that TLS has verified."""

from __future__ import annotations

import enum
import ipaddress
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography import x509

from coordinator.ca.authority import check_person
from protos.domain.errors import InvalidRequest, Unauthenticated
from protos.domain.ids import check_node_id

if TYPE_CHECKING:
    from grpc import aio

    Context = aio.ServicerContext[Any, Any]

_SCHEME = "edgeforge"


class IdentityKind(enum.StrEnum):
    """What kind of party a certificate names."""

    NODE = "node"
    OPERATOR = "operator"
    COORDINATOR = "coordinator"


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified caller. Its text is the actor of the audit, such as ``operator/ana``."""

    kind: IdentityKind
    name: str
    certificate_serial: int

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


def identity_of(certificate_pem: bytes) -> Identity:
    """Return the identity that a verified certificate names. Raises: Unauthenticated."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise Unauthenticated("the client certificate names no identity") from error
    uris = [urllib.parse.urlsplit(uri) for uri in _uris(names)]
    own = [uri for uri in uris if uri.scheme == _SCHEME]
    if len(own) != 1:
        raise Unauthenticated("the client certificate does not name exactly one party")
    uri = own[0]
    try:
        kind = IdentityKind(uri.netloc)
        check = check_node_id if kind is IdentityKind.NODE else check_person
        name = check(uri.path.removeprefix("/"))
    except (ValueError, InvalidRequest) as error:
        raise Unauthenticated("the client certificate names no party of this fleet") from error
    return Identity(kind, name, certificate.serial_number)


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


def _uris(names: x509.SubjectAlternativeName) -> list[str]:
    return names.get_values_for_type(x509.UniformResourceIdentifier)
