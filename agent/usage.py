"""The spool and its delivery, put together."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from agent.clock import now_mono_ms
from agent.link.usage import UsagePush
from agent.spool.shipper import UsageShipper
from agent.spool.spool import UsageSpool

if TYPE_CHECKING:
    from collections.abc import Callable

    from grpc import aio

    from agent.config import AgentConfig

#: Longest time that a stop waits for the coordinator to count the last records.
LAST_DELIVERY_S = 3.0


class Usage:
    """Records of usage of one agent: what requests write, and what the coordinator gets."""

    def __init__(
        self,
        config: AgentConfig,
        pop_id: str,
        make_channel: Callable[[], aio.Channel],
        now_unix_ms: Callable[[], int],
    ) -> None:
        """``now_unix_ms``: of the coordinator's clock, as this host knows it."""
        usage = config.usage
        self.spool = UsageSpool(
            config.usage_dir,
            quota_bytes=usage.quota_bytes,
            segment_bytes=usage.segment_bytes,
            max_in_flight=config.limits.max_in_flight,
            ingress_pop=pop_id,
            now_unix_ms=now_unix_ms,
        )
        self._push = UsagePush(make_channel)
        self.shipper = UsageShipper(
            self.spool,
            self._push.push,
            keep_days=usage.keep_days,
            interval_ms=usage.ship_interval_ms,
            now_mono_ms=now_mono_ms,
            now_unix_ms=now_unix_ms,
            draw=random.Random().random,
        )

    def start(self) -> None:
        """Make this run's spool. Raises: ConfigInvalid when the folder cannot be used."""
        self.spool.start()

    async def flush(self) -> None:
        """Write what waits, and let it be delivered for a bounded time."""
        await self.spool.close()
        await self.shipper.hurry(LAST_DELIVERY_S)

    async def close(self) -> None:
        """Close the connection to the coordinator; the task of the shipper has ended."""
        await self._push.close()
