"""Connections to other nodes: addresses only from the table, the warm ones chosen by demand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.peers.tls import NODE_DNS_SUFFIX, PeerTls
from agent.relay.upstream import Address, UpstreamPool
from agent.tasks import Background
from protos.domain.errors import LinkDown
from protos.domain.resources import Node, ReplicaState

if TYPE_CHECKING:
    from agent.config import PeerConfig
    from protos.domain.fleet_view import FleetView

_log = logging.getLogger(__name__)

#: Connections kept to one peer after a burst.
_MAX_IDLE = 64
_CONNECT_TIMEOUT_MS = 2_000.0


class PeerPool:
    """Pools by node; those of nodes that hold replicas are kept warm."""

    def __init__(
        self,
        node_id: str,
        config: PeerConfig,
        tls: PeerTls,
        view: Callable[[], FleetView],
    ) -> None:
        self._node_id = node_id
        self._config = config
        self._tls = tls
        self._view = view
        self._pools: dict[str, UpstreamPool] = {}
        self._addresses: dict[str, tuple[str, int]] = {}
        self._background = Background(max_tasks=1_024)
        self._warming: set[str] = set()

    def pool_for(self, node_id: str) -> UpstreamPool | None:
        """Return the connections to ``node_id`` where the table says it is; None if it does not."""
        node = self._view().nodes.get(node_id)
        if node is None or not node.peer_host or not node.peer_port:
            self._forget(node_id)
            return None
        address = (node.peer_host, node.peer_port)
        pool = self._pools.get(node_id)
        if pool is None or self._addresses[node_id] != address:
            self._forget(node_id)
            pool = UpstreamPool(
                _address(node, self._config.source_address),
                max_idle=_MAX_IDLE,
                connect_timeout_ms=_CONNECT_TIMEOUT_MS,
                tls=self._tls.client,
            )
            self._pools[node_id] = pool
            self._addresses[node_id] = address
        return pool

    def is_warm(self, node_id: str) -> bool:
        """Whether a connection stands ready."""
        pool = self._pools.get(node_id)
        return pool is not None and pool.idle > 0

    def targets(self) -> list[str]:
        """Return the nodes that hold replicas, ready ones first, at most as many as are kept warm.

        Those that are on their way are asked too: by its probe a node says that it is ready before
        the table does, and with the coordinator away only so.
        """
        view = self._view()
        ready: dict[str, None] = {}
        coming: dict[str, None] = {}
        for of_model in view.replicas.values():
            for node_id, replica in of_model.items():
                if node_id != self._node_id:
                    is_ready = replica.state is ReplicaState.READY
                    (ready if is_ready else coming)[node_id] = None
        return list(ready | coming)[: self._config.max_warm_targets]

    def keep_warm(self) -> None:
        """Dial what is missing to the targets; drop pools of nodes that have left the table."""
        nodes = self._view().nodes
        for node_id in [one for one in self._pools if one not in nodes]:
            self._forget(node_id)
        for node_id in self.targets():
            pool = self.pool_for(node_id)
            if pool is None or node_id in self._warming:
                continue
            if pool.idle < self._config.warm_spares:
                self._warming.add(node_id)
                self._background.spawn(self._warm(node_id, pool), name=f"warm-{node_id}")

    def reset(self) -> None:
        """Drop idle connections: the identity they were made with has been renewed."""
        for node_id in list(self._pools):
            self._forget(node_id)

    async def close(self) -> None:
        await self._background.close()
        self.reset()

    async def _warm(self, node_id: str, pool: UpstreamPool) -> None:
        try:
            while pool.idle < self._config.warm_spares:
                pool.give_back(await pool.dial())
        except LinkDown as error:
            _log.debug("peer not warmed node=%s reason=%s", node_id, error)
        finally:
            self._warming.discard(node_id)

    def _forget(self, node_id: str) -> None:
        pool = self._pools.pop(node_id, None)
        self._addresses.pop(node_id, None)
        if pool is not None:
            pool.close()


def _address(node: Node, source_address: str) -> Address:
    return Address(
        f"node {node.id}",
        node.id.encode(),
        host=node.peer_host,
        port=node.peer_port,
        tls=True,
        server_name=node.id + NODE_DNS_SUFFIX,
        source_address=source_address or None,
    )


async def run_warming(pool: PeerPool, interval_ms: float) -> None:
    """Keep targets warm until cancelled."""
    while True:
        pool.keep_warm()
        await asyncio.sleep(interval_ms / 1_000)
