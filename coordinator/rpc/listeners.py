"""The three gRPC listeners: each with its own credentials, its own limits, its own server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from grpc import aio

from protos.domain.errors import ConfigInvalid

if TYPE_CHECKING:
    import grpc

#: A listener, as others may call it.
Server = aio.Server

_KEEPALIVE_TIME_MS = 20_000
_KEEPALIVE_TIMEOUT_MS = 10_000
#: Clients that ping more often than this are disconnected.
_MIN_PING_INTERVAL_MS = 5_000
_HANDSHAKE_TIMEOUT_MS = 10_000
#: Calls at once on one connection: a stream, renewals, files.
_MAX_STREAMS_PER_CONNECTION = 32
#: Connections besides one for each call: in their handshake, or without a call for a while.
SPARE_CONNECTIONS = 192
#: A connection without a call is closed after this; clients make another one.
_MAX_IDLE_MS = 60_000


def make_server(
    interceptors: Sequence[aio.ServerInterceptor], *, max_calls: int, max_message_bytes: int
) -> aio.Server:
    """Return a server that is not listening yet; calls over ``max_calls`` are refused at once.

    Connections are limited too, so that those of strangers leave the other listeners their
    descriptors: gRPC closes further ones before their handshake.
    """
    return aio.server(
        interceptors=interceptors,
        maximum_concurrent_rpcs=max_calls,
        options=[
            # With SO_REUSEPORT two processes could share a port and each get half of the calls.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_concurrent_streams", _MAX_STREAMS_PER_CONNECTION),
            ("grpc.keepalive_time_ms", _KEEPALIVE_TIME_MS),
            ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", _MIN_PING_INTERVAL_MS),
            ("grpc.server_handshake_timeout_ms", _HANDSHAKE_TIMEOUT_MS),
            ("grpc.max_allowed_incoming_connections", max_calls + SPARE_CONNECTIONS),
            ("grpc.max_connection_idle_ms", _MAX_IDLE_MS),
        ],
    )


def bind(
    server: aio.Server, section: str, address: str, credentials: grpc.ServerCredentials
) -> None:
    """Have ``server`` listen on ``address`` once it starts. Raises: ConfigInvalid."""
    try:
        bound = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise ConfigInvalid(
            [f"{section}: cannot listen on {address}: it is in use or no address of this host"],
            "stop what holds the port, or choose another one",
        ) from error
    if bound == 0:
        raise ConfigInvalid([f"{section}: cannot listen on {address}"])
