"""The metering service on the fleet listener: takes what agents' spools ship."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from coordinator.core.rate_limit import RateLimit
from coordinator.rpc.identity import peer_identity
from coordinator.rpc.usage_messages import batch_of
from protos.domain.errors import Overloaded
from protos.v1 import usage_pb2, usage_pb2_grpc

if TYPE_CHECKING:
    from coordinator.rpc.identity import Context
    from coordinator.store.store import Store
    from coordinator.usage.ingest import Ingest

_log = logging.getLogger(__name__)

#: Batches of one node; a spool has one in flight, and a backlog is sent at this pace.
_BATCHES_PER_S = 50.0
_BATCHES_BURST = 200.0
#: Batches of a fleet whose agents have nothing behind: each costs what ten more records in it cost.
_FLEET_BATCHES_PER_S = 300


class MeteringService(usage_pb2_grpc.MeteringServicer):
    """Behind an IdentityInterceptor that admits enrolled nodes only."""

    def __init__(
        self,
        ingest: Ingest,
        store: Store,
        *,
        zone: str,
        now_mono_ms: Callable[[], float],
        now_unix_ms: Callable[[], int],
        agents: Callable[[], int] = lambda: 0,
    ) -> None:
        """``zone`` is where records are kept; empty: not said. ``agents``: connected ones."""
        self._ingest = ingest
        self._store = store
        self._zone = zone
        self._now_mono_ms = now_mono_ms
        self._now_unix_ms = now_unix_ms
        self._agents = agents
        self._rate = RateLimit(per_s=_BATCHES_PER_S, burst=_BATCHES_BURST)

    async def Push(self, request: usage_pb2.UsageBatch, context: Context) -> usage_pb2.UsageAck:
        """Count a batch; answers after the commit.

        Raises: InvalidRequest, Overloaded, StoreUnavailable: send the same batch again.
        """
        node = peer_identity(context).name
        wait_s = self._rate.take(node, self._now_mono_ms())
        if wait_s > 0.0:
            raise Overloaded("too many batches of usage", "send larger ones", retry_after_s=wait_s)
        record = self._store.node_record(node)
        enrolled_unix_ms = record.enrolled_unix_ms if record else 0
        batch = batch_of(request, node, self._now_unix_ms(), enrolled_unix_ms)
        outcome = await self._ingest.push(batch)
        if outcome.refused or outcome.quarantined:
            _log.warning(
                "usage not counted node=%s spool=%s refused=%s quarantined=%d conflicts=%d",
                node,
                request.spool_id,
                outcome.reason or "no",
                outcome.quarantined,
                outcome.conflicts,
            )
        return usage_pb2.UsageAck(
            spool_id=request.spool_id,
            watermark=outcome.watermark,
            refused=outcome.refused,
            reason=outcome.reason,
            coordinator_zone=self._zone,
            pause_ms=round(1_000 * self._agents() / _FLEET_BATCHES_PER_S),
        )
