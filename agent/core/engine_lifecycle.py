"""The life of one engine as a machine: events in, commands out, no process in sight.

Whoever drives it performs each command and reports what came of it; time and chance are arguments.

    absent -> starting -> warming -> ready           listening, then a real generation answered
    starting | warming | ready -> backoff            its process ended
    starting | warming | ready -> stopping -> backoff    it was ended, for not answering
    backoff | failed -> starting                     after a while; failed is backoff without hope
    anything -> stopping -> absent                   asked to stop

Laws: at most one process at a time; ``ready`` only after a generation by *this* process; after a
stop nothing starts until asked; every state that waits on others has a deadline.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from agent.core.backoff import BackoffPolicy, full_jitter_ms
from agent.core.engine_status import EngineState


@dataclass(frozen=True, slots=True)
class EnginePolicy:
    """The patience that one kind of engine deserves."""

    #: From spawn to the first generation.
    start_timeout_ms: float = 600_000
    #: Between looks at an engine that does not listen yet, or has failed to generate while warming.
    start_probe_interval_ms: float = 250
    listen_timeout_ms: float = 1_000
    #: For one generation of one token, behind whatever the engine is busy with.
    generate_timeout_ms: float = 30_000
    #: Between generations that only prove a ready engine alive. It is the net for engines that
    #: hang; one that dies is seen at once.
    live_probe_interval_ms: float = 15_000
    #: Failures in a row before a ready engine is given up and ended.
    live_probe_failures: int = 3
    #: After a failure; an engine that has just died refuses at once, and its end comes as an event.
    live_probe_retry_ms: float = 1_000
    #: From a polite request to end until the whole tree is killed.
    stop_grace_ms: float = 10_000
    #: Between kills of a tree that does not go.
    kill_interval_ms: float = 5_000
    backoff: BackoffPolicy = field(default_factory=lambda: BackoffPolicy(500, 60_000))
    #: Ready this long, and earlier failures are forgotten.
    healthy_after_ms: float = 60_000
    #: Failed starts in a row before the state says ``failed``.
    start_failures: int = 5
    #: Between starts of a failed engine: a host must mend by itself when its disk is free again.
    failed_retry_ms: float = 300_000


class ProbeKind(enum.StrEnum):
    """What is asked of an engine."""

    LISTENING = "listening"
    GENERATION = "generation"


@dataclass(frozen=True, slots=True)
class StartRequested:
    """It shall run."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """It shall not run."""


@dataclass(frozen=True, slots=True)
class ProcessStarted:
    """The process of ``generation`` exists; an engine that is not ours has no ``pid``."""

    generation: int
    pid: int | None


@dataclass(frozen=True, slots=True)
class ProcessNotStarted:
    """There is no process of ``generation`` and there was none."""

    generation: int
    reason: str
    #: False: no retry will help before somebody changes something.
    retryable: bool


@dataclass(frozen=True, slots=True)
class ProcessExited:
    """The process of ``generation`` and all it had started are gone."""

    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class ProbeSucceeded:
    """Probe ``probe`` got its answer."""

    probe: int


@dataclass(frozen=True, slots=True)
class ProbeFailed:
    """Probe ``probe`` got an error, or none in time."""

    probe: int
    reason: str


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """``next_deadline_ms`` may have come; early is harmless."""


Event = (
    StartRequested
    | StopRequested
    | ProcessStarted
    | ProcessNotStarted
    | ProcessExited
    | ProbeSucceeded
    | ProbeFailed
    | DeadlinePassed
)


@dataclass(frozen=True, slots=True)
class SpawnProcess:
    """Start it; report ``ProcessStarted`` or ``ProcessNotStarted``, and later ``ProcessExited``."""

    generation: int


@dataclass(frozen=True, slots=True)
class SendProbe:
    """Ask, and answer with ``ProbeSucceeded`` or ``ProbeFailed`` within ``timeout_ms``."""

    probe: int
    kind: ProbeKind
    timeout_ms: float


@dataclass(frozen=True, slots=True)
class TerminateProcess:
    """Ask the process of ``generation`` to end."""

    generation: int


@dataclass(frozen=True, slots=True)
class KillProcess:
    """End the process of ``generation`` and its whole tree, now."""

    generation: int


Command = SpawnProcess | SendProbe | TerminateProcess | KillProcess

_RUNNING = (EngineState.STARTING, EngineState.WARMING, EngineState.READY)
#: A probe that reports nothing is given up this long after its own timeout.
_LOST_PROBE_MS = 2_000.0


class EngineLifecycle:
    """One engine's machine. The public attributes are for reading."""

    def __init__(self, policy: EnginePolicy, now_mono_ms: float) -> None:
        self.policy = policy
        self.state = EngineState.ABSENT
        self.since_mono_ms = now_mono_ms
        #: Counts process starts; 0 before the first.
        self.generation = 0
        #: Process starts that nobody asked for.
        self.restarts = 0
        self.last_error: str | None = None
        self.pid: int | None = None
        self._wanted = False
        self._alive = False
        #: Being stopped for its own fault, not by request.
        self._given_up = False
        self._failures = 0
        self._probe = 0
        self._probe_pending = False
        self._probe_failures = 0
        #: When to act next: probe, start again, kill again, or give a probe up.
        self._act_at_ms: float | None = None
        self._start_limit_at_ms: float | None = None

    @property
    def next_deadline_ms(self) -> float | None:
        """When ``DeadlinePassed`` is due at the latest, on the caller's clock; None is never."""
        times = [at for at in (self._act_at_ms, self._start_limit_at_ms) if at is not None]
        return min(times, default=None)

    def handle(self, event: Event, now_mono_ms: float, draw: float) -> list[Command]:
        """Take ``event`` and return what to do, in order. ``draw`` in [0, 1] spreads a backoff.

        Events of an earlier process or probe change nothing.
        """
        match event:
            case StartRequested():
                return self._on_start(now_mono_ms)
            case StopRequested():
                return self._on_stop(now_mono_ms)
            case ProcessStarted() | ProcessNotStarted() | ProcessExited():
                if self._alive and event.generation == self.generation:
                    return self._on_process(event, now_mono_ms, draw)
            case ProbeSucceeded() | ProbeFailed():
                if self._probe_pending and event.probe == self._probe:
                    self._probe_pending = False
                    if isinstance(event, ProbeSucceeded):
                        return self._on_answer(now_mono_ms)
                    return self._on_silence(event.reason, now_mono_ms)
            case DeadlinePassed():
                return self._on_deadline(now_mono_ms)
        return []

    # Wishes

    def _on_start(self, now_mono_ms: float) -> list[Command]:
        if self._wanted:
            return []
        self._wanted = True
        self._failures = 0
        # While the old process is stopping: the new one follows when it is gone.
        return [] if self._alive else self._spawn(now_mono_ms)

    def _on_stop(self, now_mono_ms: float) -> list[Command]:
        self._wanted = False
        if not self._alive:
            self._enter(EngineState.ABSENT, now_mono_ms)
            return []
        if self.state is EngineState.STOPPING:
            return []
        self._enter(EngineState.STOPPING, now_mono_ms)
        self._act_at_ms = now_mono_ms + self.policy.stop_grace_ms
        return [TerminateProcess(self.generation)]

    # What happens to the process

    def _spawn(self, now_mono_ms: float) -> list[Command]:
        self.generation += 1
        self._alive = True
        self._enter(EngineState.STARTING, now_mono_ms)
        self._act_at_ms = now_mono_ms + self.policy.start_probe_interval_ms
        self._start_limit_at_ms = now_mono_ms + self.policy.start_timeout_ms
        return [SpawnProcess(self.generation)]

    def _on_process(
        self,
        event: ProcessStarted | ProcessNotStarted | ProcessExited,
        now_mono_ms: float,
        draw: float,
    ) -> list[Command]:
        if isinstance(event, ProcessStarted):
            self.pid = event.pid
            return []
        self._alive = False
        self.pid = None
        stopped = self.state is EngineState.STOPPING
        if not self._wanted:
            self._enter(EngineState.ABSENT, now_mono_ms)
            return []
        if stopped and not self._given_up:
            return self._spawn(now_mono_ms)
        if not stopped:
            self._count_failure(event.reason, now_mono_ms)
        hopeless = isinstance(event, ProcessNotStarted) and not event.retryable
        if hopeless or self._failures >= self.policy.start_failures:
            self._enter(EngineState.FAILED, now_mono_ms)
            self._act_at_ms = now_mono_ms + self.policy.failed_retry_ms
        else:
            self._enter(EngineState.BACKOFF, now_mono_ms)
            delay_ms = full_jitter_ms(self.policy.backoff, self._failures, draw)
            self._act_at_ms = now_mono_ms + delay_ms
        return []

    def _give_up(self, reason: str, now_mono_ms: float) -> list[Command]:
        """End a process that is there but does not do its work."""
        self._count_failure(reason, now_mono_ms)
        self._enter(EngineState.STOPPING, now_mono_ms)
        self._given_up = True
        self._act_at_ms = now_mono_ms + self.policy.kill_interval_ms
        return [KillProcess(self.generation)]

    def _count_failure(self, reason: str, now_mono_ms: float) -> None:
        ready_ms = now_mono_ms - self.since_mono_ms if self.state is EngineState.READY else 0.0
        if ready_ms >= self.policy.healthy_after_ms:
            self._failures = 0
        self._failures += 1
        self.last_error = reason

    # Probes

    def _send_probe(self, now_mono_ms: float) -> list[Command]:
        if self.state is EngineState.STARTING:
            kind, timeout_ms = ProbeKind.LISTENING, self.policy.listen_timeout_ms
        else:
            kind, timeout_ms = ProbeKind.GENERATION, self.policy.generate_timeout_ms
        self._probe += 1
        self._probe_pending = True
        self._act_at_ms = now_mono_ms + timeout_ms + _LOST_PROBE_MS
        return [SendProbe(self._probe, kind, timeout_ms)]

    def _on_answer(self, now_mono_ms: float) -> list[Command]:
        self._probe_failures = 0
        if self.state is EngineState.STARTING:
            limit_ms = self._start_limit_at_ms
            self._enter(EngineState.WARMING, now_mono_ms)
            self._start_limit_at_ms = limit_ms
            return self._send_probe(now_mono_ms)
        if self.state is EngineState.WARMING:
            self._enter(EngineState.READY, now_mono_ms)
        self._act_at_ms = now_mono_ms + self.policy.live_probe_interval_ms
        return []

    def _on_silence(self, reason: str, now_mono_ms: float) -> list[Command]:
        if self.state is EngineState.READY:
            self._probe_failures += 1
            if self._probe_failures >= self.policy.live_probe_failures:
                return self._give_up(f"ready, but does not generate: {reason}", now_mono_ms)
            self._act_at_ms = now_mono_ms + self.policy.live_probe_retry_ms
            return []
        if self.state is EngineState.WARMING:
            self.last_error = reason
        self._act_at_ms = now_mono_ms + self.policy.start_probe_interval_ms
        return []

    # Time

    def _on_deadline(self, now_mono_ms: float) -> list[Command]:
        limit_ms = self._start_limit_at_ms
        if limit_ms is not None and now_mono_ms >= limit_ms:
            why = f": {self.last_error}" if self.state is EngineState.WARMING else ""
            timeout_s = self.policy.start_timeout_ms / 1000
            return self._give_up(f"not ready within {timeout_s:.0f} s{why}", now_mono_ms)
        if self._act_at_ms is None or now_mono_ms < self._act_at_ms:
            return []
        if self._probe_pending:
            self._probe_pending = False
            return self._on_silence("the probe was lost", now_mono_ms)
        if self.state in _RUNNING:
            return self._send_probe(now_mono_ms)
        if self.state is EngineState.STOPPING:
            self._act_at_ms = now_mono_ms + self.policy.kill_interval_ms
            return [KillProcess(self.generation)]
        if self.state in (EngineState.BACKOFF, EngineState.FAILED):
            self.restarts += 1
            return self._spawn(now_mono_ms)
        return []

    def _enter(self, state: EngineState, now_mono_ms: float) -> None:
        """Change the state and forget its predecessor's deadlines and probe."""
        if state is not self.state:
            self.since_mono_ms = now_mono_ms
        self.state = state
        self._act_at_ms = None
        self._start_limit_at_ms = None
        self._given_up = False
        self._probe_pending = False
        self._probe_failures = 0
