"""A node of a fleet, or who pretends to be one, at another node's peer port."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.certificates import fleet_signed_pem, p256_key, private_pem

if TYPE_CHECKING:
    from tests.support.fleet import Fleet


@dataclass
class RawPeer:
    """Who dials: an identity on disk, or none."""

    cert: Path | None
    key: Path | None
    ca: Path

    def dial(self, port: int, expected: str) -> ssl.SSLSocket:
        """Connect to the node that ``expected`` names. Raises: ssl.SSLError, OSError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca)
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key)
        raw = socket.create_connection(("127.0.0.1", port), timeout=30)
        try:
            return context.wrap_socket(raw, server_hostname=f"{expected}.node.edgeforge.internal")
        except BaseException:
            raw.close()
            raise

    def ask(
        self,
        port: int,
        expected: str,
        path: str = "/probe",
        body: object = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Send one request. Raises: OSError when the connection is refused."""
        with self.dial(port, expected) as secured:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.sock = secured
            method = "GET" if body is None else "POST"
            payload = None if body is None else json.dumps(body)
            try:
                connection.request(method, path, payload, headers or {})
                response = connection.getresponse()
            except http.client.HTTPException as error:
                raise ConnectionError(str(error)) from error
            return response.status, response.read()


def node_identity(fleet: Fleet, node: str) -> RawPeer:
    """Return ``node`` itself."""
    file = fleet.state_dir / "agents" / node / "identity" / "identity.pem"
    return RawPeer(file, file, file)  # key, certificate and authorities are all in it


def named(fleet: Fleet, folder: Path, *uris: str) -> RawPeer:
    """Return a party whose certificate the fleet's authority has signed for ``uris``."""
    key = p256_key()
    authority = (fleet.state_dir / "coordinator" / "ca" / "authority.pem").read_bytes()
    (folder / "key.pem").write_bytes(private_pem(key))
    (folder / "cert.pem").write_bytes(fleet_signed_pem(authority, key, uris))
    return RawPeer(folder / "cert.pem", folder / "key.pem", node_identity(fleet, "gru-1").ca)


def generation_headers(fleet: Fleet, **changes: str) -> dict[str, str]:
    """Return what an agent sends with a generation for the fleet's deployment.

    ``changes`` are headers by the last word of their name; an empty one is left out.
    """
    claims = {
        "account": "default",
        "deployment": fleet.model,
        "model": f"external/{fleet.model}@1",
    }
    headers = {f"x-edgeforge-{name}": value for name, value in (claims | changes).items() if value}
    return headers | {"content-type": "application/json"}


def served(fleet: Fleet, node: str) -> dict[str, Any]:
    """Return what ``node`` says it has served for others."""
    return dict(fleet.agent(node).ask("GET", "/served"))
