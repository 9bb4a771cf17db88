"""Socket options and measurements of one TCP connection."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

_TCP_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_KEEPALIVE_IDLE_S, _KEEPALIVE_INTERVAL_S, _KEEPALIVE_PROBES = 30, 10, 3
_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES),
)
#: Offset of ``tcpi_rtt`` (microseconds, u32) in ``struct tcp_info``. Source: linux/tcp.h.
_RTT_OFFSET = 68
_TCP_INFO_BYTES = 104


def tune(transport: asyncio.BaseTransport) -> None:
    """Disable Nagle's algorithm and enable keepalive.

    Nagle's algorithm with delayed ACKs costs a token 40 ms. A request may wait for hours without a
    byte: keepalive keeps network devices from forgetting its connection, and finds a host that
    vanished within ``_KEEPALIVE_IDLE_S + _KEEPALIVE_PROBES * _KEEPALIVE_INTERVAL_S``.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in _TCP_FAMILIES:
        for level, option, value in _OPTIONS:
            sock.setsockopt(level, option, value)


def peer_host(transport: asyncio.BaseTransport) -> str:
    """Return the address at the other end; empty if it cannot be told."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


def last_mile_ms(transport: asyncio.BaseTransport | None) -> float:
    """Return the smoothed round trip to a client in ms; 0 where the kernel does not provide it."""
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family not in _TCP_FAMILIES:
        return 0.0
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return 0.0
    if len(info) < _RTT_OFFSET + 4:
        return 0.0
    (rtt_us,) = struct.unpack_from("=I", info, _RTT_OFFSET)
    return float(rtt_us) / 1_000.0
