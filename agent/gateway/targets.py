"""From a chosen node to bytes on a connection: the local engine, or a peer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agent.relay.messages import Header, request_bytes
from agent.relay.upstream import Address
from agent.relay.upstream_pool import UpstreamPool

if TYPE_CHECKING:
    from agent.core.engine_status import EngineEndpoint

#: Connections kept open to an engine between requests.
_ENGINE_IDLE_CONNECTIONS = 256


class LocalEngines(Protocol):
    """What this node's engine can serve now."""

    def endpoint_for(self, model: str) -> EngineEndpoint | None:
        """Return where ``model`` is served on this node, or None while it is not."""


class PeerTargets(Protocol):
    """Warm connections to other nodes."""

    def pool_for(self, node_id: str) -> UpstreamPool | None:
        """Return the connections to ``node_id``, or None if the table has no address for it."""

    def is_warm(self, node_id: str) -> bool:
        """Whether a connection stands ready."""


@dataclass(slots=True)
class Target:
    """A node ready to be asked. Written once; not frozen because it is hot."""

    node_id: str
    pool: UpstreamPool
    host: bytes
    #: Name of the model in the body, and whether the engine reports usage on every chunk.
    model: str
    continuous_usage: bool
    peer: bool


class EnginePools:
    """Connections to the local engine; a new endpoint (another process) gets new ones."""

    def __init__(self, *, connect_timeout_ms: float) -> None:
        self._connect_timeout_ms = connect_timeout_ms
        self._endpoint: EngineEndpoint | None = None
        self._pool: UpstreamPool | None = None

    def pool_for(self, endpoint: EngineEndpoint) -> UpstreamPool:
        """Return the connections to ``endpoint``."""
        if self._pool is None or endpoint != self._endpoint:
            if self._pool is not None:
                self._pool.close()
            self._endpoint = endpoint
            self._pool = UpstreamPool(
                engine_address(endpoint),
                max_idle=_ENGINE_IDLE_CONNECTIONS,
                connect_timeout_ms=self._connect_timeout_ms,
            )
        return self._pool

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()


def engine_address(endpoint: EngineEndpoint) -> Address:
    """Return where ``endpoint`` listens."""
    if endpoint.uds_path is not None:
        return Address("engine", b"engine", uds_path=endpoint.uds_path)
    host, port = endpoint.host or "", endpoint.port or 0
    return Address(
        f"engine at {host}:{port}",
        f"{host}:{port}".encode(),
        host=host,
        port=port,
        tls=endpoint.tls,
        server_name=host if endpoint.tls else None,
    )


def generation_request(
    path: str, target: Target, headers: list[Header], body: bytes, accept: bytes
) -> bytes:
    """Return the bytes of a generation request for ``target``."""
    sent = [(b"content-type", b"application/json"), (b"accept", accept), *headers]
    return request_bytes("POST", path.encode(), target.host, sent, body)
