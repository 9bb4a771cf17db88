"""Pushes batches of usage to the coordinator, over a channel that is kept between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from grpc import aio

from agent.core.usage_batch import BatchAnswer, UsageBatch
from agent.link.errors import rpc_error
from protos.domain.errors import LinkDown
from protos.v1 import usage_pb2

#: Takes a serialised batch.
Call = aio.UnaryUnaryMultiCallable[bytes, usage_pb2.UsageAck]

_METHOD = "/edgeforge.v1.Metering/Push"
_TIMEOUT_S = 30.0
#: A channel is replaced after so long, so that it has the newest certificate.
_CHANNEL_S = 3_600.0


class UsagePush:
    """The coordinator's Metering service."""

    def __init__(self, make_channel: Callable[[], aio.Channel]) -> None:
        self._make_channel = make_channel
        self._channel: aio.Channel | None = None
        self._until = 0.0

    async def push(self, batch: UsageBatch) -> BatchAnswer:
        """Return the coordinator's answer. Raises: EdgeForgeError; the batch may be counted."""
        payload = await asyncio.to_thread(encode_batch, batch)
        loop = asyncio.get_running_loop()
        if self._channel is None or loop.time() > self._until:
            await self.close()
            self._channel = self._make_channel()
            self._until = loop.time() + _CHANNEL_S
        call: Call = self._channel.unary_unary(
            _METHOD, request_serializer=None, response_deserializer=usage_pb2.UsageAck.FromString
        )
        try:
            ack = await call(payload, timeout=_TIMEOUT_S)
        except aio.AioRpcError as error:
            await self.close()
            raise rpc_error(error) from error
        if ack.spool_id != batch.spool_id:
            raise LinkDown("the coordinator answered for another spool")
        return BatchAnswer(
            ack.watermark, ack.refused, ack.reason, ack.coordinator_zone, float(ack.pause_ms)
        )

    async def close(self) -> None:
        """Close the channel."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()


def encode_batch(batch: UsageBatch) -> bytes:
    """Return the bytes of a batch; up to some milliseconds, so on a thread."""
    return usage_pb2.UsageBatch(
        spool_id=batch.spool_id,
        first_seq=batch.first_seq,
        last_seq=batch.last_seq,
        records=[
            usage_pb2.SpooledRecord(seq=seq, record=payload) for seq, payload in batch.records
        ],
        counters=[usage_pb2.UsageCounters.FromString(line) for line in batch.counters],
        damaged=batch.damaged,
        damaged_bytes=batch.damaged_bytes,
    ).SerializeToString()
