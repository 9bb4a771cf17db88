"""A scripted engine body, for tests of the driver alone."""

from __future__ import annotations

import asyncio

from agent.core.engine_liveness import Counters
from agent.core.engine_status import EngineEndpoint

ENDPOINT = EngineEndpoint(
    "acme/small@1", None, "127.0.0.1", 1, tls=False, supports_continuous_usage=True
)


class ScriptedBody:
    """Set ``spawn_error`` or ``probe_error`` to fail; ``die`` ends the process."""

    def __init__(self) -> None:
        self.spawn_error: Exception | None = None
        self.probe_error: Exception | None = None
        self.spawn_gate: asyncio.Event | None = None
        self.done: list[str] = []
        self.endpoint = ENDPOINT
        self._reason: asyncio.Future[str] | None = None

    async def spawn(self) -> int | None:
        """Start, after ``spawn_gate`` if there is one."""
        self.done.append("spawn")
        if self.spawn_gate is not None:
            await self.spawn_gate.wait()
        if self.spawn_error is not None:
            raise self.spawn_error
        self._reason = asyncio.get_running_loop().create_future()
        return 42

    async def wait(self) -> str:
        """Return the reason set by ``die``."""
        assert self._reason is not None
        return await self._reason

    def die(self, reason: str) -> None:
        """End, for ``reason``."""
        assert self._reason is not None
        if not self._reason.done():
            self._reason.set_result(reason)

    def terminate(self) -> None:
        """End as asked."""
        self.done.append("terminate")
        self.die("terminated")

    def kill(self) -> None:
        """End as forced."""
        self.done.append("kill")
        self.die("killed")

    async def listen(self) -> None:
        """Answer, or fail as told."""
        if self.probe_error is not None:
            raise self.probe_error

    async def generate(self) -> None:
        """Answer, or fail as told."""
        await self.listen()

    async def counters(self) -> Counters | None:
        """Fail as scripted, or return None."""
        self.done.append("counters")
        await self.listen()
        return None
