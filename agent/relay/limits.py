"""Limits of the connections of one listener."""

from __future__ import annotations

from dataclasses import dataclass

from protos.domain.connection_shares import STRANGERS_PART


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits of size, time and number for the connections of one listener."""

    max_header_bytes: int
    max_body_bytes: int
    header_timeout_ms: float
    body_timeout_ms: float
    idle_timeout_ms: float
    buffer_bytes: int
    max_connections: int
    #: Connections that have shown no key or certificate hold at most 1 / this of them.
    strangers_part: int = STRANGERS_PART
