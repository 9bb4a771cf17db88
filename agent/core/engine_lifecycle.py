"""The life cycle of one engine as a sans-io machine: events in, commands out.

A driver performs each command and reports its result as an event; time and chance are arguments.

    absent -> starting -> warming -> ready           listening, then a real generation answered
    starting | warming | ready -> backoff            its process ended
    starting | warming -> stopping -> backoff        ended: not ready within the start timeout
    ready -> stopping -> backoff                     ended: no progress within the stall timeout
    backoff | failed -> starting                     after a delay; failed after many failures
    anything -> stopping -> absent                   asked to stop

Laws: at most one process at a time; ``ready`` only after a generation by *this* process; while an
engine makes progress no outcome of a probe ends it; after a stop nothing starts until asked; every
state that waits on others has a deadline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.backoff import full_jitter_ms
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
from agent.core.engine_liveness import Counters, EngineLiveness
from agent.core.engine_status import EngineState

if TYPE_CHECKING:
    from agent.core.engine_policy import EnginePolicy

_RUNNING = (EngineState.STARTING, EngineState.WARMING, EngineState.READY)
_GENERATING = (EngineState.WARMING, EngineState.READY)
#: A probe or reading that reports nothing is given up this long after its own timeout.
_LOST_MS = 2_000.0


class EngineLifecycle:
    """One engine's machine. The public attributes are read-only."""

    def __init__(self, policy: EnginePolicy, now_mono_ms: float) -> None:
        self.policy = policy
        self.state = EngineState.ABSENT
        self.since_mono_ms = now_mono_ms
        #: Counts process starts; 0 before the first.
        self.generation = 0
        #: Process starts after a failure.
        self.restarts = 0
        self.last_error: str | None = None
        self.pid: int | None = None
        self._wanted = False
        self._alive = False
        #: Being stopped for its own fault, not by request.
        self._given_up = False
        self._failures = 0
        self._liveness = EngineLiveness(policy.stall_timeout_ms)
        self._probe = 0
        self._probe_pending = False
        #: Why the latest probe of a ready engine failed; None if none has since its progress.
        self._probe_error: str | None = None
        self._reading = 0
        #: When a reading of the counters that reports nothing is given up; None without one.
        self._reading_until_ms: float | None = None
        #: When to read the counters next; None while no probe is overdue.
        self._read_at_ms: float | None = None
        #: When to act next: probe, start again, kill again, or give a probe up.
        self._act_at_ms: float | None = None
        self._start_limit_at_ms: float | None = None

    @property
    def next_deadline_ms(self) -> float | None:
        """When ``DeadlinePassed`` is due at the latest, on the caller's clock; None is never."""
        reading_ms = self._reading_until_ms
        times = (
            self._act_at_ms,
            self._start_limit_at_ms,
            self._look_at_ms if reading_ms is None else reading_ms,
        )
        return min((at for at in times if at is not None), default=None)

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
                    return self._on_probe_failed(event.reason, now_mono_ms)
            case ProgressSeen(at_mono_ms):
                self._on_progress(min(at_mono_ms, now_mono_ms))
            case CountersRead(reading, counters):
                if self._reading_until_ms is not None and reading == self._reading:
                    return self._on_counters(counters, now_mono_ms)
            case DeadlinePassed():
                return self._on_deadline(now_mono_ms)
        return []

    # Requests to start and stop

    def _on_start(self, now_mono_ms: float) -> list[Command]:
        if self._wanted:
            return []
        self._wanted = True
        self._failures = 0
        # While the old process is stopping the new one starts when it has ended.
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

    # The process

    def _spawn(self, now_mono_ms: float) -> list[Command]:
        self.generation += 1
        self._alive = True
        self._liveness.forget()
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
        """End a process that does not start in time or has stalled."""
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

    # Probes and progress

    def _send_probe(self, now_mono_ms: float) -> list[Command]:
        policy = self.policy
        if self.state is EngineState.STARTING:
            kind, timeout_ms = ProbeKind.LISTENING, policy.listen_timeout_ms
        elif self.state is EngineState.WARMING:
            # Not asked again while it may be answering: the first generation may take long.
            kind = ProbeKind.GENERATION
            timeout_ms = max(policy.generate_timeout_ms, policy.stall_timeout_ms)
        else:
            kind = ProbeKind.GENERATION
            timeout_ms = policy.share_of_stall_ms(policy.generate_timeout_ms)
        self._probe += 1
        self._probe_pending = True
        self._act_at_ms = now_mono_ms + timeout_ms + _LOST_MS
        if kind is ProbeKind.GENERATION and self._read_at_ms is None:
            self._read_at_ms = now_mono_ms + policy.share_of_stall_ms(policy.overdue_ms)
        return [SendProbe(self._probe, kind, timeout_ms)]

    def _on_answer(self, now_mono_ms: float) -> list[Command]:
        if self.state is EngineState.STARTING:
            limit_ms = self._start_limit_at_ms
            self._enter(EngineState.WARMING, now_mono_ms)
            self._start_limit_at_ms = limit_ms
            return self._send_probe(now_mono_ms)
        if self.state is EngineState.WARMING:
            self._enter(EngineState.READY, now_mono_ms)
        self._liveness.progressed(now_mono_ms)
        self._read_at_ms = self._probe_error = None
        self._act_at_ms = self._probe_due_ms
        return []

    def _on_probe_failed(self, reason: str, now_mono_ms: float) -> list[Command]:
        if self.state is EngineState.READY:
            self._probe_error = reason
            retry_ms = self.policy.share_of_stall_ms(self.policy.live_probe_retry_ms)
            self._act_at_ms = max(now_mono_ms + retry_ms, self._probe_due_ms)
            return []
        if self.state is EngineState.WARMING:
            self.last_error = reason
        self._act_at_ms = now_mono_ms + self.policy.start_probe_interval_ms
        return []

    def _on_progress(self, at_mono_ms: float) -> None:
        if self.state not in _GENERATING or not self._liveness.progressed(at_mono_ms):
            return
        self._read_at_ms = self._probe_error = None
        if self.state is EngineState.READY and not self._probe_pending:
            self._act_at_ms = self._probe_due_ms

    def _read_counters(self, now_mono_ms: float) -> list[Command]:
        self._reading += 1
        timeout_ms = self.policy.counters_timeout_ms
        self._reading_until_ms = now_mono_ms + timeout_ms + _LOST_MS
        return [ReadCounters(self._reading, timeout_ms)]

    def _on_counters(self, counters: Counters | None, now_mono_ms: float) -> list[Command]:
        """Take what was read; a ready engine is ended here, after the latest evidence."""
        self._reading_until_ms = None
        policy, liveness = self.policy, self._liveness
        moved = liveness.read(counters, now_mono_ms)
        self._read_at_ms = now_mono_ms + policy.share_of_stall_ms(policy.live_probe_interval_ms)
        if self.state is not EngineState.READY:
            return []
        if moved:
            self._probe_error = None
            if not self._probe_pending:
                self._act_at_ms = self._probe_due_ms
        elif self._probe_error is not None and now_mono_ms >= liveness.stalls_at_ms:
            stall_s = policy.stall_timeout_ms / 1000
            reason = f"ready, but made no progress for {stall_s:.0f} s: {self._probe_error}"
            return self._give_up(reason, now_mono_ms)
        return []

    @property
    def _probe_due_ms(self) -> float:
        """When a ready engine is probed unless it makes progress before."""
        policy, liveness = self.policy, self._liveness
        due_ms = liveness.progress_mono_ms + policy.share_of_stall_ms(policy.live_probe_interval_ms)
        if liveness.counters_moved_last:
            # After the next reading: while the counters move, no probe joins the engine's queue.
            due_ms += policy.share_of_stall_ms(policy.overdue_ms)
        return due_ms

    def _on_deadline(self, now_mono_ms: float) -> list[Command]:
        limit_ms = self._start_limit_at_ms
        if limit_ms is not None and now_mono_ms >= limit_ms:
            # Of a warming engine only; one that starts has made no progress yet.
            longer_ms = self._liveness.progress_mono_ms + self.policy.stall_timeout_ms
            if now_mono_ms >= longer_ms:
                return self._give_up(self._not_ready(), now_mono_ms)
            self._start_limit_at_ms = longer_ms
        if _is_due(self._reading_until_ms, now_mono_ms):
            commands = self._on_counters(None, now_mono_ms)
        elif self._reading_until_ms is None and _is_due(self._look_at_ms, now_mono_ms):
            commands = self._read_counters(now_mono_ms)
        else:
            commands = []
        if _is_due(self._act_at_ms, now_mono_ms):
            commands += self._act(now_mono_ms)
        return commands

    @property
    def _look_at_ms(self) -> float | None:
        """When the counters are read next: a probe is overdue, or the engine may be stalled.

        Without a failed probe since its progress no engine is stalled: this host may have stood
        still instead.
        """
        if self.state is EngineState.READY and self._probe_error is not None:
            stalls_at_ms = self._liveness.stalls_at_ms
            return stalls_at_ms if self._read_at_ms is None else min(self._read_at_ms, stalls_at_ms)
        return self._read_at_ms

    def _act(self, now_mono_ms: float) -> list[Command]:
        if self._probe_pending:
            self._probe_pending = False
            return self._on_probe_failed("the probe was lost", now_mono_ms)
        if self.state in _RUNNING:
            return self._send_probe(now_mono_ms)
        if self.state is EngineState.STOPPING:
            self._act_at_ms = now_mono_ms + self.policy.kill_interval_ms
            return [KillProcess(self.generation)]
        if self.state in (EngineState.BACKOFF, EngineState.FAILED):
            self.restarts += 1
            return self._spawn(now_mono_ms)
        return []

    def _not_ready(self) -> str:
        why = f": {self.last_error}" if self.state is EngineState.WARMING else ""
        return f"not ready within {self.policy.start_timeout_ms / 1000:.0f} s{why}"

    def _enter(self, state: EngineState, now_mono_ms: float) -> None:
        """Change the state and forget its predecessor's deadlines, probe and reading."""
        if state is not self.state:
            self.since_mono_ms = now_mono_ms
        self.state = state
        self._act_at_ms = None
        self._start_limit_at_ms = None
        self._given_up = False
        self._probe_pending = False
        self._probe_error = None
        self._reading_until_ms = None
        self._read_at_ms = None


def _is_due(at_ms: float | None, now_mono_ms: float) -> bool:
    return at_ms is not None and now_mono_ms >= at_ms
