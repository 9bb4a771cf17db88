"""Asks the coordinator for quota: one call at a time, for many accounts; requests may wait for it.

What is decided (when, and what for) is in ``agent.core.quota_calls``.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from grpc import aio

from agent.core.backoff import BackoffPolicy, full_jitter_ms
from agent.link.errors import rpc_error
from protos.domain.errors import EdgeForgeError, LinkDown
from protos.v1 import quota_pb2_grpc
from protos.wire.quota import answer_from_wire, call_to_wire

if TYPE_CHECKING:
    from agent.core.quota_calls import QuotaCalls
    from protos.domain.quota import LeaseAnswer, LeaseCall

_log = logging.getLogger(__name__)

#: The coordinator answers from memory: later than this it cannot be reached.
CALL_TIMEOUT_S = 2.0
#: How long a request waits for quota, at most.
MAX_WAIT_S = 0.4
#: After a failed call.
_BACKOFF = BackoffPolicy(base_ms=250.0, cap_ms=5_000.0)
_SHORTEST_PAUSE_MS = 50.0


class QuotaLink:
    """Keeps the leases of this agent. Implements ``agent.gateway.context.QuotaWait``."""

    def __init__(
        self,
        calls: QuotaCalls,
        make_channel: Callable[[], aio.Channel],
        *,
        now_mono_ms: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        self._calls = calls
        self._make_channel = make_channel
        self._now_mono_ms = now_mono_ms
        self._draw = draw
        self._channel: aio.Channel | None = None
        self._wake = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._failures = 0
        self._stale = False

    def use_renewed_identity(self) -> None:
        """Use the renewed certificate from the next call on."""
        self._stale = True

    async def wait(self) -> None:
        """Wait until a call has ended that was made after this; at most ``MAX_WAIT_S``."""
        if not self._calls.linked:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._wake.set()
        try:
            async with asyncio.timeout(MAX_WAIT_S):
                await future
        except TimeoutError:
            return

    async def run(self) -> None:
        """Ask for quota until cancelled."""
        self._calls.linked, self._calls.wake = True, self._wake.set
        try:
            while True:
                await self._pause()
                await self._ask()
        finally:
            self._calls.linked = False
            await self._close()

    async def _pause(self) -> None:
        """Wait until a call is due."""
        if self._failures:
            pause_ms = full_jitter_ms(_BACKOFF, self._failures, self._draw())
            await asyncio.sleep(max(pause_ms, _SHORTEST_PAUSE_MS) / 1_000)
        while True:
            self._wake.clear()
            left_ms = self._calls.next_call_mono_ms() - self._now_mono_ms()
            if left_ms <= 0.0:
                return
            try:
                async with asyncio.timeout(None if math.isinf(left_ms) else left_ms / 1_000):
                    await self._wake.wait()
            except TimeoutError:
                return

    async def _ask(self) -> None:
        waiting, self._waiting = self._waiting, []
        call = self._calls.call(self._now_mono_ms())
        try:
            answer = await self._call(call)
        except EdgeForgeError as error:
            self._failed(error)
        else:
            self._failures = 0
            self._calls.answered(answer, self._now_mono_ms())
        finally:
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def _call(self, call: LeaseCall) -> LeaseAnswer:
        """Raises: EdgeForgeError."""
        if self._stale:
            await self._close()
        if self._channel is None:
            self._channel = self._make_channel()
        stub = quota_pb2_grpc.QuotaStub(self._channel)
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                response = await stub.Lease(call_to_wire(call))
        except TimeoutError:
            raise LinkDown("the coordinator did not answer a call for quota") from None
        except aio.AioRpcError as error:
            raise rpc_error(error) from error
        return answer_from_wire(response, call)

    def _failed(self, error: EdgeForgeError) -> None:
        self._failures += 1
        self._calls.failed()
        if self._failures == 1:
            _log.warning("no quota from the coordinator, shares are kept reason=%s", error)

    async def _close(self) -> None:
        channel, self._channel, self._stale = self._channel, None, False
        if channel is not None:
            await channel.close()
