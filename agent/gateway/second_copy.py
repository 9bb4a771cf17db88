"""The second copy of a late request: started by a timer, beside the first, at most once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.gateway.asked import Running
    from agent.relay.deadlines import Deadlines


class SecondCopy:
    """Waits while the first copy is in time; costs a timer and nothing more until then.

    ``begin`` makes the copy when the time has come, or None when there shall be none; ``run``
    lets it come to its end.
    """

    def __init__(
        self,
        begin: Callable[[], Running | None],
        run: Callable[[Running], Coroutine[object, object, None]],
        deadlines: Deadlines,
    ) -> None:
        self._begin = begin
        self._run = run
        self._deadlines = deadlines
        self._deadline = 0
        self._task: asyncio.Task[None] | None = None
        #: The copy, once it has been sent.
        self.running: Running | None = None

    def arm(self, at_mono_ms: float) -> None:
        """Send the copy then, unless closed before."""
        self._deadline = self._deadlines.set(at_mono_ms, self._fire)

    async def wait_ended(self) -> None:
        """Wait for the end of the copy that was sent; cancelled, the copy is cancelled too."""
        if self._task is not None:
            await self._task

    async def close(self) -> None:
        """Send no copy any more, and cut the one that runs."""
        self._deadlines.clear(self._deadline)
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _fire(self) -> None:
        self.running = self._begin()
        if self.running is not None:
            self._task = asyncio.get_running_loop().create_task(self._run(self.running))
