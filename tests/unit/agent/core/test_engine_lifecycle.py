"""An engine's life, told as transcripts: what happened, what is done about it."""

from __future__ import annotations

import pytest

from agent.core.backoff import BackoffPolicy
from agent.core.engine_lifecycle import (
    Command,
    DeadlinePassed,
    EngineLifecycle,
    EnginePolicy,
    Event,
    KillProcess,
    ProbeFailed,
    ProbeKind,
    ProbeSucceeded,
    ProcessExited,
    ProcessNotStarted,
    ProcessStarted,
    SendProbe,
    SpawnProcess,
    StartRequested,
    StopRequested,
    TerminateProcess,
)
from agent.core.engine_status import EngineState

POLICY = EnginePolicy(
    start_timeout_ms=60_000,
    start_probe_interval_ms=250,
    listen_timeout_ms=1_000,
    generate_timeout_ms=30_000,
    live_probe_interval_ms=15_000,
    live_probe_failures=3,
    live_probe_retry_ms=1_000,
    stop_grace_ms=10_000,
    kill_interval_ms=5_000,
    backoff=BackoffPolicy(500, 8_000),
    healthy_after_ms=60_000,
    start_failures=4,
    failed_retry_ms=300_000,
)


class Told:
    """A machine and its clock."""

    def __init__(self) -> None:
        self.now_mono_ms = 1_000_000.0
        self.machine = EngineLifecycle(POLICY, self.now_mono_ms)

    def on(self, event: Event, *, draw: float = 1.0) -> list[Command]:
        return self.machine.handle(event, self.now_mono_ms, draw)

    def after(self, delay_ms: float, *, draw: float = 1.0) -> list[Command]:
        self.now_mono_ms += delay_ms
        return self.on(DeadlinePassed(), draw=draw)

    def at_deadline(self) -> list[Command]:
        deadline_ms = self.machine.next_deadline_ms
        assert deadline_ms is not None
        self.now_mono_ms = deadline_ms
        return self.on(DeadlinePassed())

    @property
    def state(self) -> EngineState:
        return self.machine.state

    def ready(self) -> None:
        """From wanting to start, or waiting to, straight to ready."""
        if self.state in (EngineState.BACKOFF, EngineState.FAILED):
            self.at_deadline()
        else:
            self.on(StartRequested())
        self.on(ProcessStarted(self.machine.generation, 42))
        [listening] = self.at_deadline()
        assert isinstance(listening, SendProbe)
        [generation] = self.on(ProbeSucceeded(listening.probe))
        assert isinstance(generation, SendProbe)
        self.on(ProbeSucceeded(generation.probe))
        assert self.state is EngineState.READY


@pytest.fixture
def told() -> Told:
    return Told()


def test_absent_waits_for_nothing(told: Told) -> None:
    assert told.state is EngineState.ABSENT
    assert told.machine.next_deadline_ms is None
    assert told.on(DeadlinePassed()) == []
    assert told.on(StopRequested()) == []


def test_ready_takes_a_listener_and_then_a_generation(told: Told) -> None:
    assert told.on(StartRequested()) == [SpawnProcess(1)]
    assert told.state is EngineState.STARTING
    assert told.on(ProcessStarted(1, 42)) == []
    assert told.machine.pid == 42
    assert told.after(249) == []
    assert told.after(1) == [SendProbe(1, ProbeKind.LISTENING, 1_000)]
    assert told.on(ProbeFailed(1, "connection refused")) == []
    assert told.after(250) == [SendProbe(2, ProbeKind.LISTENING, 1_000)]
    assert told.on(ProbeSucceeded(2)) == [SendProbe(3, ProbeKind.GENERATION, 30_000)]
    assert told.state is EngineState.WARMING
    assert told.on(ProbeFailed(3, "500")) == []
    assert told.state is EngineState.WARMING
    assert told.after(250) == [SendProbe(4, ProbeKind.GENERATION, 30_000)]
    assert told.on(ProbeSucceeded(4)) == []
    assert told.state is EngineState.READY
    assert told.machine.restarts == 0


def test_starting_twice_is_starting_once(told: Told) -> None:
    told.on(StartRequested())
    assert told.on(StartRequested()) == []
    told.on(ProcessExited(1, "exit code 1"))
    assert told.on(StartRequested()) == []
    assert told.state is EngineState.BACKOFF


def test_the_start_deadline_covers_starting_and_warming(told: Told) -> None:
    told.on(StartRequested())
    told.on(ProcessStarted(1, 42))
    told.after(250)
    told.on(ProbeSucceeded(1))
    told.on(ProbeFailed(2, "still compiling"))
    assert told.after(60_000 - 250) == [KillProcess(1)]
    assert told.state is EngineState.STOPPING
    assert told.machine.last_error == "not ready within 60 s: still compiling"
    assert told.on(ProcessExited(1, "killed")) == []
    assert told.state is EngineState.BACKOFF
    assert told.machine.last_error == "not ready within 60 s: still compiling"


def test_a_crash_is_followed_by_a_backoff_and_a_start(told: Told) -> None:
    told.ready()
    assert told.on(ProcessExited(1, "killed by signal 9"), draw=0.5) == []
    assert told.state is EngineState.BACKOFF
    assert told.machine.pid is None
    assert told.machine.last_error == "killed by signal 9"
    assert told.after(249) == []
    assert told.after(1) == [SpawnProcess(2)]
    assert told.machine.restarts == 1


def test_the_backoff_doubles_to_its_cap_and_then_the_state_says_failed(told: Told) -> None:
    told.on(StartRequested())
    for generation, delay_ms in ((1, 500), (2, 1_000), (3, 2_000)):
        told.on(ProcessExited(generation, "exit code 1"))
        assert told.state is EngineState.BACKOFF
        assert told.after(delay_ms - 1) == []
        assert told.after(1) == [SpawnProcess(generation + 1)]
    told.on(ProcessExited(4, "exit code 1"))
    assert told.state is EngineState.FAILED
    assert told.after(299_999) == []
    assert told.after(1) == [SpawnProcess(5)]
    # Still without one success: slow again, not fast.
    told.on(ProcessExited(5, "exit code 1"))
    assert told.state is EngineState.FAILED


def test_a_healthy_while_forgets_earlier_failures(told: Told) -> None:
    told.on(StartRequested())
    for generation in (1, 2):
        told.on(ProcessExited(generation, "exit code 1"))
        told.at_deadline()
    told.on(ProcessExited(3, "exit code 1"))
    told.ready()
    told.now_mono_ms += 60_000
    told.on(ProcessExited(4, "killed by signal 9"))
    assert told.after(500) == [SpawnProcess(5)]


def test_a_short_while_of_health_does_not(told: Told) -> None:
    told.on(StartRequested())
    told.on(ProcessExited(1, "exit code 1"))
    told.ready()
    told.now_mono_ms += 59_999
    told.on(ProcessExited(2, "killed by signal 9"))
    assert told.after(999) == []
    assert told.after(1) == [SpawnProcess(3)]


def test_what_no_retry_can_mend_is_failed_at_once(told: Told) -> None:
    told.on(StartRequested())
    told.on(ProcessNotStarted(1, "no such file: python", retryable=False))
    assert told.state is EngineState.FAILED
    assert told.machine.last_error == "no such file: python"


def test_a_spawn_that_may_work_later_is_retried_soon(told: Told) -> None:
    told.on(StartRequested())
    told.on(ProcessNotStarted(1, "cannot fork", retryable=True))
    assert told.state is EngineState.BACKOFF
    assert told.after(500) == [SpawnProcess(2)]


def test_a_ready_engine_that_no_longer_generates_is_killed(told: Told) -> None:
    told.ready()
    [probe] = told.after(15_000)
    assert isinstance(probe, SendProbe)
    assert probe.kind is ProbeKind.GENERATION
    for _ in range(2):
        assert told.on(ProbeFailed(probe.probe, "no answer")) == []
        assert told.after(999) == []
        [probe] = told.after(1)
        assert isinstance(probe, SendProbe)
    assert told.state is EngineState.READY
    assert told.on(ProbeFailed(probe.probe, "no answer")) == [KillProcess(1)]
    assert told.state is EngineState.STOPPING
    assert told.after(5_000) == [KillProcess(1)]
    told.on(ProcessExited(1, "killed by signal 9"))
    assert told.state is EngineState.BACKOFF
    assert told.machine.last_error == "ready, but does not generate: no answer"


def test_one_answer_in_between_clears_the_count(told: Told) -> None:
    told.ready()
    [probe] = told.after(15_000)
    for _ in range(5):
        assert isinstance(probe, SendProbe)
        told.on(ProbeFailed(probe.probe, "busy"))
        [probe] = told.after(1_000)
        assert isinstance(probe, SendProbe)
        assert told.on(ProbeSucceeded(probe.probe)) == []
        [probe] = told.after(15_000)
    assert told.state is EngineState.READY


def test_a_probe_that_reports_nothing_counts_as_failed(told: Told) -> None:
    told.ready()
    told.after(15_000)
    assert told.after(31_999) == []
    assert told.after(1) == []
    [probe] = told.after(1_000)
    assert isinstance(probe, SendProbe)
    # The lost one's late answer is not this one's.
    assert told.on(ProbeSucceeded(probe.probe - 1)) == []


def test_a_stop_is_polite_first_and_then_insists(told: Told) -> None:
    told.ready()
    assert told.on(StopRequested()) == [TerminateProcess(1)]
    assert told.on(StopRequested()) == []
    assert told.after(9_999) == []
    assert told.after(1) == [KillProcess(1)]
    assert told.after(5_000) == [KillProcess(1)]
    assert told.on(ProcessExited(1, "killed")) == []
    assert told.state is EngineState.ABSENT
    assert told.machine.next_deadline_ms is None
    assert told.machine.last_error is None


def test_wanted_again_while_stopping_starts_when_the_old_one_is_gone(told: Told) -> None:
    told.ready()
    told.on(StopRequested())
    assert told.on(StartRequested()) == []
    assert told.on(ProcessExited(1, "exit code 0")) == [SpawnProcess(2)]
    assert told.machine.restarts == 0


@pytest.mark.parametrize("failures", [1, 4])
def test_a_stop_while_waiting_to_start_is_over_at_once(told: Told, failures: int) -> None:
    told.on(StartRequested())
    for generation in range(1, failures + 1):
        told.on(ProcessExited(generation, "exit code 1"))
        if generation < failures:
            told.at_deadline()
    assert told.state in (EngineState.BACKOFF, EngineState.FAILED)
    assert told.on(StopRequested()) == []
    assert told.state is EngineState.ABSENT
    assert told.after(1_000_000) == []


def test_a_stop_during_a_give_up_ends_absent(told: Told) -> None:
    told.on(StartRequested())
    told.after(60_000)
    assert told.state is EngineState.STOPPING
    told.on(StopRequested())
    told.on(ProcessExited(1, "killed"))
    assert told.state is EngineState.ABSENT


def test_events_of_an_earlier_process_change_nothing(told: Told) -> None:
    told.ready()
    told.on(ProcessExited(1, "killed by signal 9"))
    told.at_deadline()
    for event in (
        ProcessExited(1, "late"),
        ProcessStarted(1, 41),
        ProcessNotStarted(1, "late", retryable=False),
        ProbeSucceeded(2),
        ProbeFailed(2, "late"),
    ):
        assert told.on(event) == []
    assert told.state is EngineState.STARTING
    assert told.machine.pid is None
