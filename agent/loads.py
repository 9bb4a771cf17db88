"""Loads for requests: however many wait for the same thing, it is loaded once.

A request that leaves gives up its wait only: the load goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from agent.core.cold_start import ColdStart, ColdWay, Wanted
from agent.core.samples import Sample, Samples
from agent.tasks import Background
from protos.domain.errors import EdgeForgeError, EngineFailed, Overloaded

if TYPE_CHECKING:
    from agent.core.engine_status import EngineEndpoint

_log = logging.getLogger(__name__)

#: Requests that wait for loads at a time, and loads at a time; more are refused.
MAX_WAITING = 8_192
MAX_LOADS = 64

#: What came of a load: how it went, None if nothing was to be loaded, or why it failed.
LoadResult = ColdStart | EdgeForgeError | None


class Residents(Protocol):
    """This node's engines: what they hold, and what can be brought into one."""

    def endpoint_for(self, model: str, adapter: str = "") -> EngineEndpoint | None:
        """Return where it is served now, or None. Hot."""

    def cold_path(self, model: str, adapter: str = "") -> ColdWay | None:
        """Return how it would get into an engine, None if it would not."""

    async def make_resident(self, model: str, adapter: str = "") -> ColdStart:
        """Load it. Raises: EdgeForgeError."""

    def enter(self, endpoint: EngineEndpoint) -> None:
        """Keep there what a request uses."""

    def leave(self, endpoint: EngineEndpoint) -> None:
        """Let go of it."""

    def resident(self) -> list[str]:
        """Return the names of models and adapters that can be asked for now."""

    def loadable(self) -> Mapping[str, ColdWay] | None:
        """Return the names of those that would be loaded for a request; None: too many to say."""


class LoadWait:
    """One request's wait for a load; it is told once, unless it is given up."""

    __slots__ = ("_loads", "began", "on_ended", "wanted")

    def __init__(
        self, loads: Loads, wanted: Wanted, on_ended: Callable[[LoadResult], None], *, began: bool
    ) -> None:
        self._loads = loads
        self.wanted = wanted
        self.on_ended = on_ended
        #: Whether the load was begun for it.
        self.began = began

    def give_up(self) -> None:
        """Wait no longer; the load goes on."""
        self._loads.forget(self)


class Loads:
    """The loads in progress at this node and who waits for them; on one event loop."""

    def __init__(
        self,
        residents: Residents,
        on_loaded: Callable[[Wanted, ColdStart], None] = lambda _wanted, _cold: None,
        *,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._residents = residents
        self._on_loaded = on_loaded
        self._max_waiting = max_waiting
        #: In the order in which they began to wait.
        self._waiting: dict[Wanted, dict[LoadWait, None]] = {}
        self._count = 0
        self._background = Background(max_tasks=MAX_LOADS)
        self.loaded = 0
        self.failed = 0
        self.refused = 0

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return self._count

    def wait(self, wanted: Wanted, on_ended: Callable[[LoadResult], None]) -> LoadWait:
        """Wait for ``wanted``, whose load begins now if none is in progress.

        ``on_ended`` is called later, once. Raises: Overloaded.
        """
        waits = self._waiting.get(wanted)
        if self._count >= self._max_waiting or (waits is None and len(self._waiting) >= MAX_LOADS):
            self.refused += 1
            raise Overloaded(
                "too many requests wait for models and adapters to be loaded",
                "send fewer at a time, or retry after the given time",
                retry_after_s=1.0,
            )
        began = waits is None
        if waits is None:
            self._background.spawn(self._load(wanted), name=f"load-{wanted.name}")
            waits = self._waiting[wanted] = {}
        wait = LoadWait(self, wanted, on_ended, began=began)
        waits[wait] = None
        self._count += 1
        return wait

    def forget(self, wait: LoadWait) -> None:
        """Drop ``wait``, which is told nothing."""
        waits = self._waiting.get(wait.wanted)
        if waits is not None and wait in waits:
            del waits[wait]
            self._count -= 1

    async def enter(self, wanted: Wanted) -> tuple[EngineEndpoint | None, ColdStart | None, bool]:
        """Wait for ``wanted`` and enter it, which the caller must leave.

        Return where it is served, None if it has left the engine again; how it was loaded, None if
        it was there; and whether this call began the load. Raises: EdgeForgeError.
        """
        done: asyncio.Future[tuple[EngineEndpoint | None, ColdStart | None]]
        done = asyncio.get_running_loop().create_future()

        def ended(result: LoadResult) -> None:
            # entered at once, so that nothing else takes its place in the engine before
            if isinstance(result, EdgeForgeError):
                done.set_exception(result)
            else:
                done.set_result((self._enter(wanted), result))

        wait = self.wait(wanted, ended)
        try:
            endpoint, cold_start = await asyncio.shield(done)
        except asyncio.CancelledError:
            wait.give_up()
            if done.done() and not done.cancelled() and done.exception() is None:
                entered, _ = done.result()
                if entered is not None:
                    self._residents.leave(entered)
            raise
        return endpoint, cold_start, wait.began

    async def close(self) -> None:
        """Cancel the loads in progress; those who wait are told that they failed."""
        await self._background.close()

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield loads and who waits for them."""
        yield Sample("edgeforge_loads_waiting", "Requests that wait for a load.", self._count)
        yield Sample("edgeforge_loads_running", "Loads in progress.", len(self._waiting))
        for name, text, value in (
            ("edgeforge_loads", "Loads of models and adapters for requests.", self.loaded),
            ("edgeforge_loads_failed", "Loads that failed.", self.failed),
            ("edgeforge_loads_refused", "Requests refused because too many waited.", self.refused),
        ):
            yield Sample(name, text, value, counter=True)

    def _enter(self, wanted: Wanted) -> EngineEndpoint | None:
        endpoint = self._residents.endpoint_for(wanted.model, wanted.adapter)
        if endpoint is not None:
            self._residents.enter(endpoint)
        return endpoint

    async def _load(self, wanted: Wanted) -> None:
        result: LoadResult = EngineFailed(f"the load of {wanted.name!r} was cut", "send it again")
        try:
            result = await self._try(wanted)
        finally:
            waits = self._waiting.pop(wanted)
            self._count -= len(waits)
            for wait in waits:
                try:
                    wait.on_ended(result)
                except Exception:  # of one request; the others are told all the same
                    _log.exception("a request failed after its load name=%s", wanted.name)

    async def _try(self, wanted: Wanted) -> LoadResult:
        residents = self._residents
        if residents.endpoint_for(wanted.model, wanted.adapter) is not None:
            return None
        try:
            cold_start = await residents.make_resident(wanted.model, wanted.adapter)
        except EdgeForgeError as error:
            self.failed += 1
            _log.warning("load failed name=%s reason=%s", wanted.name, error.message)
            return error
        except Exception:
            self.failed += 1
            _log.exception("load failed name=%s", wanted.name)
            return EngineFailed(f"{wanted.name!r} could not be loaded", "retry later")
        self.loaded += 1
        self._on_loaded(wanted, cold_start)
        return cold_start
