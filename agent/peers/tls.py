"""Mutual TLS between agents, with the fleet's CA only."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from protos.domain.errors import Unauthenticated

if TYPE_CHECKING:
    import asyncio

#: Loads the node's key, certificate and CA bundle into a context.
UseIdentity = Callable[[ssl.SSLContext], None]

NODE_URI_PREFIX = "edgeforge://node/"
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
    """Return the node that a verified client certificate names. Raises: Unauthenticated."""
    certificate = transport.get_extra_info("peercert") or {}
    names = [
        value[len(NODE_URI_PREFIX) :]
        for kind, value in certificate.get("subjectAltName", ())
        if kind == "URI" and value.startswith(NODE_URI_PREFIX)
    ]
    if len(names) != 1:
        raise Unauthenticated("the peer's certificate names no node")
    return str(names[0])
