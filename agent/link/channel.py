"""gRPC channels to the coordinator: the fleet's CA only, one fixed name, bounded messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from grpc import aio

from protos.domain.routing_table import MAX_TABLE_BYTES

if TYPE_CHECKING:
    from agent.link.identity import StoredIdentity

#: The name in the coordinator's certificate, whatever its address is.
COORDINATOR_NAME = "coordinator.edgeforge.internal"

_OPTIONS = (
    ("grpc.ssl_target_name_override", COORDINATOR_NAME),
    ("grpc.max_receive_message_length", MAX_TABLE_BYTES + 1024 * 1024),
    ("grpc.max_send_message_length", 4 * 1024 * 1024),
    # A silent network partition must be detected within seconds.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_http_proxy", 0),
    # The link has its own back-off between attempts.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.min_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


def node_channel(address: str, stored: StoredIdentity) -> aio.Channel:
    """Return a channel with this node's certificate."""
    credentials = grpc.ssl_channel_credentials(
        root_certificates=stored.ca_pem,
        private_key=stored.key_pem,
        certificate_chain=stored.cert_pem,
    )
    return aio.secure_channel(address, credentials, options=_OPTIONS)


def enrolment_channel(address: str, ca_pem: bytes) -> aio.Channel:
    """Return a channel without a client certificate to a coordinator of this CA."""
    credentials = grpc.ssl_channel_credentials(root_certificates=ca_pem)
    return aio.secure_channel(address, credentials, options=_OPTIONS)
