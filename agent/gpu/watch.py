"""Reads the accelerators at an interval and derives their faults."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from agent.core.accelerator_health import (
    AcceleratorHealth,
    Event,
    Fault,
    HealthPolicy,
    OperatorResumed,
    ReaderFailed,
    ReaderUnusable,
    Sampled,
    Severity,
    Ticked,
    active_fatal,
    fault_samples,
)
from agent.core.accelerators import reading_samples
from agent.core.backoff import BackoffPolicy, full_jitter_ms
from agent.core.own_accelerators import OwnAccelerators
from agent.core.samples import Sample, Samples
from agent.gpu.process import ReaderBroken, ReaderChild, ReaderRefused
from agent.gpu.reader import CPU, NONE

if TYPE_CHECKING:
    from agent.core.accelerators import Reading

_log = logging.getLogger(__name__)

_BACKOFF = BackoffPolicy(base_ms=250.0, cap_ms=10_000.0)
_SHORTEST_PAUSE_MS = 100.0
_TICK_S = 0.5


class GpuWatch:
    """The readings and faults of one node's accelerators, on one event loop.

    Readings are of all of them, faults only of those in ``devices``, which the engine computes on
    (None: all). ``on_change`` is called when the faults change; ``draw`` returns a random number
    in [0, 1).
    """

    def __init__(
        self,
        kind: str,
        *,
        interval_ms: float,
        deadline_ms: float,
        now_mono_ms: Callable[[], float],
        draw: Callable[[], float],
        on_change: Callable[[], None],
        devices: tuple[str, ...] | None = None,
    ) -> None:
        self.kind = kind
        self._own = OwnAccelerators(devices)
        self._interval_ms = interval_ms
        self._deadline_ms = deadline_ms
        self._now_mono_ms = now_mono_ms
        self._draw = draw
        self._on_change = on_change
        self._child = ReaderChild(kind)
        # Where the engine needs no GPU, missing readings do not drain the node.
        policy = HealthPolicy(blind_is_fatal=kind != CPU and devices != ())
        self._health = AcceleratorHealth(policy, now_mono_ms())
        self._logged_faults: frozenset[Fault] = frozenset()
        #: The last reading of each accelerator.
        self.readings: tuple[Reading, ...] = ()
        self.reads = 0
        self.failures = 0
        self._has_tried = asyncio.Event()

    @property
    def own_readings(self) -> tuple[Reading, ...]:
        """The last readings of those that the engine computes on."""
        return tuple(self._own.select(self.readings))

    async def wait_first_reading(self, timeout_s: float) -> None:
        """Wait until GPUs were read or could not be; a host without GPUs is not waited for."""
        if self.kind in (NONE, CPU):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._has_tried.wait()

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All faults, fatal ones first."""
        return self._health.faults

    @property
    def drain_reason(self) -> str:
        """Why this node must drain; empty when it need not."""
        return self._health.drain_reason

    @property
    def reader_pid(self) -> int | None:
        """The child's process id, or None without a child."""
        return self._child.pid

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield every accelerator's figures, the faults, and readings taken and failed."""
        yield from reading_samples(self.readings)
        yield from fault_samples(self.faults)
        yield Sample(
            "edgeforge_accelerator_readings", "Readings taken.", float(self.reads), counter=True
        )
        yield Sample(
            "edgeforge_accelerator_reader_failures",
            "Readers that stalled, died or sent an invalid answer.",
            float(self.failures),
            counter=True,
        )

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return readings and faults."""
        return {
            "gpu": {
                "kind": self.kind,
                "reader_pid": self.reader_pid,
                "accelerators": [asdict(one) for one in self.readings],
                "faults": [asdict(one) for one in self.faults],
            }
        }

    def resume(self) -> list[Fault]:
        """Clear faults that are no longer present; return the fatal ones that still are."""
        self._handle(OperatorResumed())
        return active_fatal(self.faults)

    async def run(self) -> None:
        """Read until cancelled."""
        if self.kind == NONE:
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read())
                group.create_task(self._tick())
        finally:
            await self._child.kill()

    async def _read(self) -> None:
        failures = 0
        while True:
            began_mono_ms = self._now_mono_ms()
            try:
                self.readings = await self._read_once()
            except ReaderBroken as error:
                failures += 1
                self.failures += 1
                self.readings = ()
                self._handle(_failure(error))
                pause_ms = full_jitter_ms(_BACKOFF, failures, self._draw())
                pause_ms = max(_SHORTEST_PAUSE_MS, pause_ms)
            else:
                failures = 0
                self.reads += 1
                self._handle(Sampled(self._own.select(self.readings)))
                self._log_unknown_devices()
                pause_ms = began_mono_ms + self._interval_ms - self._now_mono_ms()
            self._has_tried.set()
            await asyncio.sleep(max(0.0, pause_ms) / 1_000)

    async def _read_once(self) -> tuple[Reading, ...]:
        """Return readings. Raises: ReaderBroken for any failure, so that the watch goes on."""
        try:
            return await self._child.read(self._deadline_ms)
        except ReaderBroken:
            raise
        except Exception as error:
            _log.exception("reading accelerators failed")
            await self._child.kill()
            raise ReaderBroken(f"{type(error).__name__}: {error}") from error

    async def _tick(self) -> None:
        """Evaluate deadlines while a reader hangs."""
        while True:
            await asyncio.sleep(_TICK_S)
            self._handle(Ticked())

    def _log_unknown_devices(self) -> None:
        if self.reads == 1 and self._own.unknown:
            _log.warning(
                "the engine's devices are not all known, so that every accelerator of the host is"
                " watched; unknown=%s; gpu.devices takes identities as in `edgeforge-agent status`",
                ",".join(self._own.unknown),
            )

    def _handle(self, event: Event) -> None:
        if not self._health.handle(event, self._now_mono_ms()):
            return
        faults = frozenset(self.faults)
        for fault in faults - self._logged_faults:
            level = logging.ERROR if fault.severity is Severity.FATAL else logging.WARNING
            _log.log(level, "accelerator fault kind=%s: %s", fault.kind, fault.detail)
        self._logged_faults = faults
        self._on_change()


def _failure(error: ReaderBroken) -> Event:
    if isinstance(error, ReaderRefused):
        return ReaderUnusable(str(error), error.missing)
    return ReaderFailed(str(error))
