"""Performs the commands of an engine's machine on a real engine, and reports what came of them."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import aiohttp

from agent.core.engine_events import (
    Command,
    CountersRead,
    DeadlinePassed,
    Event,
    KillProcess,
    ProbeFailed,
    ProbeKind,
    ProbeSucceeded,
    ProcessExited,
    ProcessNotStarted,
    ProcessStarted,
    ProgressSeen,
    ReadCounters,
    SendProbe,
    SpawnProcess,
    StartRequested,
    StopRequested,
    TerminateProcess,
)
from agent.core.engine_lifecycle import EngineLifecycle
from agent.core.engine_status import EngineEndpoint, EngineState, EngineStatus
from agent.tasks import Background
from protos.domain.errors import EdgeForgeError

if TYPE_CHECKING:
    from agent.core.engine_liveness import Counters
    from agent.core.engine_policy import EnginePolicy

_log = logging.getLogger(__name__)


#: When a token of the engine's answers was relayed last; monotonic milliseconds.
RelayedAt = Callable[[], float]


def never_relayed() -> float:
    """Return the time of the last token where no request passes through this agent."""
    return -math.inf


class EngineBody(Protocol):
    """What the driver needs of a kind of engine."""

    async def spawn(self) -> int | None:
        """Start it and return its pid; None for an external engine. Raises: EdgeForgeError."""

    async def wait(self) -> str:
        """Return the reason of its end, once it has ended."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it."""

    async def listen(self) -> None:
        """Return if it answers at all; raise otherwise."""

    async def generate(self) -> None:
        """Return if it generates; raise otherwise."""

    async def counters(self) -> Counters | None:
        """Return the engine's own counters, None if it has none; raise if they cannot be read."""

    @property
    def endpoint(self) -> EngineEndpoint:
        """Where it serves; only asked for after ``generate`` has returned."""


class EngineDriver:
    """One engine in action: performs the machine's commands and keeps its deadlines."""

    def __init__(
        self,
        body: EngineBody,
        policy: EnginePolicy,
        *,
        now_mono_ms: Callable[[], float],
        draw: Callable[[], float],
        on_change: Callable[[EngineStatus], None],
        relayed_mono_ms: RelayedAt = never_relayed,
    ) -> None:
        self._body = body
        self._policy = policy
        self._now_mono_ms = now_mono_ms
        self._draw = draw
        self._on_change = on_change
        self._relayed_mono_ms = relayed_mono_ms
        self._machine = EngineLifecycle(policy, now_mono_ms())
        self._background = Background(max_tasks=8)
        self._timer: asyncio.TimerHandle | None = None
        #: An end that was requested while the process was still being started.
        self._end_early: Callable[[], None] | None = None
        self._spawned = False
        self._absent = asyncio.Event()
        self._reported: EngineStatus | None = None

    @property
    def status(self) -> EngineStatus:
        """The engine as it is now; ``endpoint`` only while it is ready."""
        machine = self._machine
        return EngineStatus(
            state=machine.state,
            endpoint=self.ready_endpoint,
            generation=machine.generation,
            restarts=machine.restarts,
            since_mono_ms=machine.since_mono_ms,
            last_error=machine.last_error,
            pid=machine.pid,
        )

    @property
    def ready_endpoint(self) -> EngineEndpoint | None:
        """Where it serves, while it is ready. Hot."""
        return self._body.endpoint if self._machine.state is EngineState.READY else None

    async def start(self) -> None:
        """Keep it running, after crashes too; returns before it is ready."""
        self._handle_event(StartRequested())

    async def stop(self) -> None:
        """End it and return when it is gone."""
        self._handle_event(StopRequested())
        limit_ms = self._policy.stop_grace_ms + 4 * self._policy.kill_interval_ms
        try:
            async with asyncio.timeout(limit_ms / 1000):
                await self._absent.wait()
        except TimeoutError:
            _log.error("the engine does not end pid=%s", self._machine.pid)
        if self._timer is not None:
            self._timer.cancel()
        await self._background.close()

    def restart(self) -> None:
        """End its process at once; another is started as after a crash."""
        if self._machine.state in (EngineState.STARTING, EngineState.WARMING, EngineState.READY):
            self._end(self._body.kill)

    def _handle_event(self, event: Event) -> None:
        machine = self._machine
        before = machine.state
        now_mono_ms, draw = self._now_mono_ms(), self._draw()
        # First, so that every decision knows the latest progress.
        commands = machine.handle(ProgressSeen(self._relayed_mono_ms()), now_mono_ms, draw)
        commands += machine.handle(event, now_mono_ms, draw)
        if machine.state is not before:
            _log.info(
                "engine state=%s was=%s generation=%d restarts=%d error=%s",
                machine.state,
                before,
                machine.generation,
                machine.restarts,
                machine.last_error,
            )
        if machine.state is EngineState.ABSENT:
            self._absent.set()
        else:
            self._absent.clear()
        for command in commands:
            self._perform(command)
        self._set_timer()
        self._report()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline_ms = self._machine.next_deadline_ms
        if deadline_ms is not None:
            # Never zero: a timer that fires a little early must not spin.
            delay_s = max(deadline_ms - self._now_mono_ms(), 1.0) / 1000
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(delay_s, self._handle_event, DeadlinePassed())

    def _report(self) -> None:
        status = self.status
        if status == self._reported:
            return
        self._reported = status
        try:
            self._on_change(status)
        except Exception:
            _log.exception("the engine's state could not be reported state=%s", status.state)

    def _perform(self, command: Command) -> None:
        match command:
            case SpawnProcess(generation):
                self._spawned = False
                self._end_early = None
                self._background.spawn(self._live(generation), name=f"engine-{generation}")
            case SendProbe():
                self._background.spawn(self._ask(command), name=f"engine-probe-{command.probe}")
            case ReadCounters():
                self._background.spawn(self._read(command), name=f"engine-read-{command.reading}")
            case TerminateProcess():
                self._end(self._body.terminate)
            case KillProcess():
                self._end(self._body.kill)

    def _end(self, how: Callable[[], None]) -> None:
        if self._spawned:
            how()
        else:
            self._end_early = how

    async def _live(self, generation: int) -> None:
        """Start one process and report its start and its end."""
        try:
            pid = await self._body.spawn()
        except EdgeForgeError as error:
            self._handle_event(ProcessNotStarted(generation, str(error), error.retryable))
            return
        except Exception as error:
            _log.exception("starting an engine failed generation=%d", generation)
            self._handle_event(ProcessNotStarted(generation, repr(error), retryable=True))
            return
        self._spawned = True
        self._handle_event(ProcessStarted(generation, pid))
        if self._end_early is not None:
            self._end_early()
        reason = await self._body.wait()
        self._spawned = False
        self._handle_event(ProcessExited(generation, reason))

    async def _ask(self, command: SendProbe) -> None:
        ask = self._body.listen if command.kind is ProbeKind.LISTENING else self._body.generate
        event: Event
        try:
            async with asyncio.timeout(command.timeout_ms / 1000):
                await ask()
            event = ProbeSucceeded(command.probe)
        except TimeoutError:
            event = ProbeFailed(command.probe, f"no answer within {command.timeout_ms:.0f} ms")
        except (EdgeForgeError, aiohttp.ClientError, OSError) as error:
            event = ProbeFailed(command.probe, str(error) or type(error).__name__)
        except Exception as error:
            _log.exception("a probe failed in an unforeseen way")
            event = ProbeFailed(command.probe, repr(error))
        self._handle_event(event)

    async def _read(self, command: ReadCounters) -> None:
        counters: Counters | None = None
        try:
            async with asyncio.timeout(command.timeout_ms / 1000):
                counters = await self._body.counters()
        except (TimeoutError, EdgeForgeError, aiohttp.ClientError, OSError) as error:
            _log.info("the engine's counters cannot be read reason=%r", error)
        except Exception:
            _log.exception("reading the engine's counters failed in an unforeseen way")
        self._handle_event(CountersRead(command.reading, counters))
