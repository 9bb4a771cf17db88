"""Connections to other nodes: addresses from the table only, warm targets chosen by demand."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from agent.core.warm_set import WarmCandidate, choose_warm
from agent.peers.tls import NODE_DNS_SUFFIX, PeerTls
from agent.relay.upstream import Address
from agent.relay.upstream_pool import UpstreamPool
from agent.tasks import Background
from protos.domain.errors import LinkDown
from protos.domain.geo import great_circle_km, prior_rtt_ms_p50
from protos.domain.resources import Node, Pop, ReplicaState

if TYPE_CHECKING:
    from agent.config import PeerConfig
    from agent.core.live import LiveState
    from protos.domain.fleet_view import FleetView

_log = logging.getLogger(__name__)

#: Most idle connections kept to one peer after a burst, while they are still used.
_MAX_IDLE = 1_024
#: How long unused connections are kept.
_KEEP_UNUSED_MS = 30_000.0
_CONNECT_TIMEOUT_MS = 2_000.0
#: How long a choice of warm targets is kept while the table stays the same.
_CHOICE_MS = 10_000.0


@dataclass(frozen=True, slots=True)
class _WarmChoice:
    """The latest choice of targets, kept because choosing reads every replica."""

    view: FleetView
    until_mono_ms: float
    nodes: list[str]


class PeerPool:
    """Connection pools by node; pools of nodes that hold replicas are kept warm."""

    def __init__(
        self,
        node_id: str,
        config: PeerConfig,
        tls: PeerTls,
        view: Callable[[], FleetView],
        live: LiveState,
        now_mono_ms: Callable[[], float],
    ) -> None:
        self._node_id = node_id
        self._config = config
        self._tls = tls
        self._view = view
        self._live = live
        self._now_mono_ms = now_mono_ms
        self._chosen: _WarmChoice | None = None
        self._pools: dict[str, UpstreamPool] = {}
        self._addresses: dict[str, tuple[str, int]] = {}
        self._background = Background(max_tasks=1_024)
        self._warming: set[str] = set()
        self._closed_unused_mono_ms = now_mono_ms()

    def pool_for(self, node_id: str) -> UpstreamPool | None:
        """Return the pool for ``node_id`` at its address in the table; None without one."""
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
                check=partial(self._tls.check_node, node_id),
                spares=self._config.warm_spares,
                refill=partial(self._refill, node_id),
            )
            self._pools[node_id] = pool
            self._addresses[node_id] = address
        return pool

    def address_of(self, node_id: str) -> tuple[str, int] | None:
        """Return the peer address of ``node_id`` in the table; None without one."""
        node = self._view().nodes.get(node_id)
        return (node.peer_host, node.peer_port) if node and node.peer_host else None

    def is_warm(self, node_id: str) -> bool:
        """Return whether an idle connection is open."""
        pool = self._pools.get(node_id)
        return pool is not None and pool.idle > 0

    def targets(self) -> list[str]:
        """Return the nodes to keep warm and to probe, chosen by demand among holders of replicas.

        Replicas that are not ready yet count too: a probe's answer reports readiness before the
        table does, and is the only report while the coordinator is unreachable.
        """
        view, now_mono_ms = self._view(), self._now_mono_ms()
        chosen = self._chosen
        if chosen is None or chosen.view is not view or now_mono_ms >= chosen.until_mono_ms:
            nodes = choose_warm(self._holders(view, now_mono_ms), self._config.max_warm_targets)
            self._chosen = chosen = _WarmChoice(view, now_mono_ms + _CHOICE_MS, nodes)
        return chosen.nodes

    def _holders(self, view: FleetView, now_mono_ms: float) -> list[WarmCandidate]:
        ready: dict[str, bool] = {}
        for of_model in view.replicas.values():
            for node_id, replica in of_model.items():
                is_ready = replica.state is ReplicaState.READY
                ready[node_id] = is_ready or ready.get(node_id, False)
        ready.pop(self._node_id, None)
        live = self._live
        return [
            WarmCandidate(
                node_id, is_ready, live.demand(node_id, now_mono_ms), self._rtt_ms(view, node_id)
            )
            for node_id, is_ready in ready.items()
        ]

    def _rtt_ms(self, view: FleetView, node_id: str) -> float:
        """Return the measured round trip, or an estimate from the distance."""
        measured = self._live.rtt_ms_p50(node_id)
        if measured is not None:
            return measured
        here, there = (_pop_of(view, one) for one in (self._node_id, node_id))
        if here is None or there is None:
            return math.inf
        return prior_rtt_ms_p50(
            great_circle_km(
                here.latitude_deg, here.longitude_deg, there.latitude_deg, there.longitude_deg
            )
        )

    def keep_warm(self) -> None:
        """Dial missing connections to targets; close unused ones and those of removed nodes."""
        nodes = self._view().nodes
        for node_id in [one for one in self._pools if one not in nodes]:
            self._forget(node_id)
        targets = self.targets()
        self._close_unused(targets)
        for node_id in targets:
            pool = self.pool_for(node_id)
            if pool is not None:
                self._start_warming(node_id, pool)

    def reset(self) -> None:
        """Close idle connections, which were made with the old certificate."""
        for node_id in list(self._pools):
            self._forget(node_id)

    async def close(self) -> None:
        await self._background.close()
        self.reset()

    def _close_unused(self, targets: list[str]) -> None:
        now_mono_ms = self._now_mono_ms()
        if now_mono_ms < self._closed_unused_mono_ms + _KEEP_UNUSED_MS:
            return
        self._closed_unused_mono_ms = now_mono_ms
        spares = dict.fromkeys(targets, self._config.warm_spares)
        for node_id, pool in self._pools.items():
            pool.close_unneeded(keep=spares.get(node_id, 0))

    def _refill(self, node_id: str) -> None:
        """Replace a taken spare at once, instead of at the next probe."""
        pool = self._pools.get(node_id)
        if pool is not None and node_id in self.targets():
            self._start_warming(node_id, pool)

    def _start_warming(self, node_id: str, pool: UpstreamPool) -> None:
        if node_id not in self._warming and pool.idle < self._config.warm_spares:
            self._warming.add(node_id)
            self._background.spawn(self._warm(node_id, pool), name=f"warm-{node_id}")

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


def _pop_of(view: FleetView, node_id: str) -> Pop | None:
    node = view.nodes.get(node_id)
    return None if node is None else view.pops.get(node.pop_id)


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
