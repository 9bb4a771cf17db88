"""Mutual TLS between agents, with the fleet's CA only."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from protos.domain.errors import Unauthenticated
from protos.domain.party import node_of

if TYPE_CHECKING:
    import asyncio

#: A node's certificate has ``<id>`` + this as a DNS name, which OpenSSL checks when dialling.
NODE_DNS_SUFFIX = ".node.edgeforge.internal"


class PeerTls:
    """TLS contexts made from the node's identity files, and remade after a renewal."""

    def __init__(self, identity_dir: Path) -> None:
        self._dir = identity_dir
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
        if (named := peer_node_id(transport)) != node_id:
            raise Unauthenticated(f"its certificate names node {named!r}")

    def reload(self) -> None:
        """Load the renewed certificate and CA bundle, for new connections."""
        self._client = None
        self.server.load_cert_chain(self._dir / "cert.pem", self._dir / "key.pem")
        self.server.load_verify_locations(self._dir / "ca.pem")

    def _load(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self._dir / "cert.pem", self._dir / "key.pem")
        context.load_verify_locations(self._dir / "ca.pem")
        return context


def peer_node_id(transport: asyncio.BaseTransport) -> str:
    """Return the node that the other side's verified certificate names. Raises: Unauthenticated."""
    certificate = transport.get_extra_info("peercert") or {}
    names = certificate.get("subjectAltName", ())
    return node_of(value for kind, value in names if kind == "URI")
