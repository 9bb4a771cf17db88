"""From a chosen node to bytes on a connection: the local engine, or a peer."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agent.relay.upstream import Address
from agent.relay.upstream_pool import UpstreamPool

if TYPE_CHECKING:
    from agent.core.engine_status import EngineEndpoint

#: Connections kept open to an engine between requests.
_ENGINE_IDLE_CONNECTIONS = 256
#: Engines of this node that connections are kept to; the one known for longest is dropped.
MAX_ENGINES = 16


class LocalEngines(Protocol):
    """What this node's engine can serve now."""

    def endpoint_for(self, model: str, adapter: str = "") -> EngineEndpoint | None:
        """Return where ``model`` is served on this node, or None while it is not."""


class PeerTargets(Protocol):
    """Open connections to other nodes."""

    def pool_for(self, node_id: str) -> UpstreamPool | None:
        """Return the connections to ``node_id``, or None if the table has no address for it."""

    def is_warm(self, node_id: str) -> bool:
        """Whether an open connection is ready."""


@dataclass(slots=True)
class Target:
    """A node ready to be asked. Written once; not frozen because it is hot."""

    node_id: str
    pool: UpstreamPool
    #: Name of the model for the body.
    model: str
    #: Whether the engine reports usage on every chunk.
    continuous_usage: bool
    peer: bool


class EnginePools:
    """Connections to the local engines, by their address; models and adapters of one share them."""

    def __init__(self, *, connect_timeout_ms: float) -> None:
        self._connect_timeout_ms = connect_timeout_ms
        self._pools: OrderedDict[Address, UpstreamPool] = OrderedDict()

    def pool_for(self, endpoint: EngineEndpoint) -> UpstreamPool:
        """Return the connections to ``endpoint``. Hot."""
        address = engine_address(endpoint)
        pool = self._pools.get(address)
        if pool is None:
            if len(self._pools) >= MAX_ENGINES:
                self._pools.popitem(last=False)[1].close()
            pool = self._pools[address] = UpstreamPool(
                address,
                max_idle=_ENGINE_IDLE_CONNECTIONS,
                connect_timeout_ms=self._connect_timeout_ms,
            )
        return pool

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


class Targets:
    """The nodes that this agent can send requests to, itself among them."""

    def __init__(
        self, node_id: str, engines: LocalEngines, pools: EnginePools, peers: PeerTargets
    ) -> None:
        self._node_id = node_id
        self._engines = engines
        self._pools = pools
        self._peers = peers

    def find(
        self,
        node_id: str,
        model: str,
        *,
        embeds: bool,
        adapter: str = "",
        endpoint: EngineEndpoint | None = None,
    ) -> Target | None:
        """Return ``node_id`` ready to be asked, or None if it no longer is.

        ``endpoint`` is where this node's engine serves the request, if it was entered there.
        """
        if node_id != self._node_id:
            peer_pool = self._peers.pool_for(node_id)
            return None if peer_pool is None else Target(node_id, peer_pool, model, True, True)
        endpoint = endpoint or self._engines.endpoint_for(model, adapter)
        if endpoint is None or endpoint.embeds is not embeds:
            return None
        pool = self._pools.pool_for(endpoint)
        return Target(node_id, pool, endpoint.model, endpoint.supports_continuous_usage, False)


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
