"""Mutual TLS between agents, with the fleet's CA only."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from protos.domain.errors import Unauthenticated
from protos.domain.party import node_of

if TYPE_CHECKING:
    import asyncio

#: Loads the node's key, certificate and CA bundle into a context.
UseIdentity = Callable[[ssl.SSLContext], None]

#: A node's certificate has ``<id>`` + this as a DNS name, which OpenSSL checks when dialling.
NODE_DNS_SUFFIX = ".node.edgeforge.internal"


class PeerTls:
    """TLS contexts made from the node's identity, and remade after a renewal."""

    def __init__(self, use_identity: UseIdentity) -> None:
        self._use_identity = use_identity
        self._client: ssl.SSLContext | None = None
        self.server = self._load(ssl.PROTOCOL_TLS_SERVER)
        self.server.verify_mode = ssl.CERT_REQUIRED

    def client(self) -> ssl.SSLContext:
        """Return the context for dialling; the dialler passes the name to check."""
        if self._client is None:
            self._client = self._load(ssl.PROTOCOL_TLS_CLIENT)
        return self._client

    def check_node(self, node_id: str, transport: asyncio.BaseTransport) -> None:
        """Check who was dialled: OpenSSL has checked a DNS name, which may be one of several.

        Raises: Unauthenticated.
        """
        self._check_named(node_id, peer_node_id(transport))

    def check_socket(self, node_id: str, secured: ssl.SSLSocket) -> None:
        """Check who was dialled by a blocking socket. Raises: Unauthenticated."""
        self._check_named(node_id, _node_in(secured.getpeercert()))

    def _check_named(self, node_id: str, named: str) -> None:
        if named != node_id:
            raise Unauthenticated(f"its certificate names node {named!r}")

    def reload(self) -> None:
        """Load the renewed certificate and CA bundle, for new connections."""
        self._client = None
        self._use_identity(self.server)

    def _load(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._use_identity(context)
        return context


def peer_node_id(transport: asyncio.BaseTransport) -> str:
    """Return the node that the other side's verified certificate names. Raises: Unauthenticated."""
    return _node_in(transport.get_extra_info("peercert"))


def _node_in(certificate: Mapping[str, Any] | None) -> str:
    names = (certificate or {}).get("subjectAltName", ())
    return node_of(value for kind, value in names if kind == "URI")
