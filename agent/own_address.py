"""The address of this host that packets to another one leave from."""

from __future__ import annotations

import socket

from protos.domain.addresses import split_address


def own_address(towards: str) -> str | None:
    """Return this host's IP address towards ``host:port``; None if it has no route or no name.

    Nothing is sent: connecting a UDP socket only chooses a route.
    """
    parts = split_address(towards)
    if parts is None:
        return None
    try:
        found = socket.getaddrinfo(*parts, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as sock:
            sock.connect(address)
            return str(sock.getsockname()[0])
    except (OSError, UnicodeError):
        return None
