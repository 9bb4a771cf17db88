"""Probes each warm target for its round trip, load and ready models."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import orjson

from agent.core.peer_load import read_probe
from agent.core.samples import Sample, Samples
from agent.peers.fetch import fetch_response
from agent.relay.messages import request_bytes
from protos.domain.addresses import join_address
from protos.domain.errors import EdgeForgeError, LinkDown, NoReplica

if TYPE_CHECKING:
    from agent.config import PeerConfig
    from agent.core.live import LiveState
    from agent.peers.pool import PeerPool
    from agent.relay.upstream_pool import UpstreamPool

_log = logging.getLogger(__name__)


class Prober:
    """Probes the pool's targets and records the answers in the live state."""

    def __init__(
        self,
        config: PeerConfig,
        pool: PeerPool,
        live: LiveState,
        now_mono_ms: Callable[[], float],
    ) -> None:
        self._config = config
        self._pool = pool
        self._live = live
        self._now_mono_ms = now_mono_ms
        self.sent = 0
        self.failed = 0
        #: Nodes whose last probe failed, so that each change is logged once.
        self._silent: set[str] = set()

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            began = self._now_mono_ms()
            self._pool.keep_warm()
            await self.probe_all()
            spent_ms = self._now_mono_ms() - began
            await asyncio.sleep(max(0.0, self._config.probe_interval_ms - spent_ms) / 1_000)

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield probes sent and failed."""
        yield Sample("edgeforge_probes", "Probes sent.", self.sent, counter=True)
        yield Sample("edgeforge_probes_failed", "Probes not answered.", self.failed, counter=True)

    async def probe_all(self) -> None:
        """Probe every target once, all at the same time."""
        async with asyncio.TaskGroup() as group:
            for node_id in self._pool.targets():
                pool = self._pool.pool_for(node_id)
                if pool is not None:
                    group.create_task(self._probe(node_id, pool))

    async def dial(self, node_id: str, address: tuple[str, int]) -> str:
        """Reach a node's peer port by a new or kept connection; return what failed.

        Raises: NoReplica when the table here has another address, as before a push arrived.
        """
        if self._pool.address_of(node_id) != address:
            raise NoReplica(f"{node_id!r} has another peer address in the table here")
        pool = self._pool.pool_for(node_id)
        assert pool is not None
        request = request_bytes("GET", b"/probe", pool.address.host_header, [], b"")
        try:
            status, _ = await fetch_response(pool, request, self._config.probe_timeout_ms)
        except TimeoutError:
            return f"no answer within {self._config.probe_timeout_ms:.0f} ms"
        except EdgeForgeError as error:
            return error.message
        return "" if status == 200 else f"its peer port answered {status}"

    async def _probe(self, node_id: str, pool: UpstreamPool) -> None:
        live = self._live
        self.sent += 1
        warm = pool.idle > 0
        began = self._now_mono_ms()
        request = request_bytes("GET", b"/probe", pool.address.host_header, [], b"")
        try:
            status, body = await fetch_response(pool, request, self._config.probe_timeout_ms)
            if status != 200:
                raise LinkDown(f"probe answered {status}")
            answer = read_probe(orjson.loads(body))
        except (EdgeForgeError, TimeoutError, ValueError) as error:
            self.failed += 1
            # Only one that got no answer in time may wait behind requests that are answered.
            sent_mono_ms = began if isinstance(error, TimeoutError) else math.inf
            live.probe_failed(node_id, self._now_mono_ms(), sent_mono_ms)
            self._log_change(node_id, f"{type(error).__name__}: {error}")
            return
        self._log_change(node_id, "")
        now = self._now_mono_ms()
        if warm:  # with a handshake, the time would not be the round trip
            live.probed(node_id, now - began, now)
        else:
            live.reached(node_id)
        load = answer.load
        live.reported(
            node_id,
            now,
            in_flight=load.in_flight,
            queued=load.queued,
            fill_ratio=load.fill_ratio,
            ready_models=answer.ready_models,
            incarnation=answer.incarnation,
            newcomer=load.newcomer,
            loadable=answer.loadable,
        )

    def _log_change(self, node_id: str, failure: str) -> None:
        if failure and node_id not in self._silent:
            self._silent &= set(self._pool.targets())
            self._silent.add(node_id)
            address = join_address(*(self._pool.address_of(node_id) or ("", 0)))
            _log.warning("peer unreachable node=%s address=%s: %s", node_id, address, failure)
        elif not failure and node_id in self._silent:
            self._silent.discard(node_id)
            _log.info("peer reachable again node=%s", node_id)
