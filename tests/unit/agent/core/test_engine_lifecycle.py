"""An engine's life as transcripts: given these events, these commands."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from agent.core.backoff import BackoffPolicy
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
from agent.core.engine_liveness import Counters
from agent.core.engine_policy import EnginePolicy
from agent.core.engine_status import EngineState

POLICY = EnginePolicy(
    start_timeout_ms=60_000,
    start_probe_interval_ms=250,
    listen_timeout_ms=1_000,
    generate_timeout_ms=30_000,
    live_probe_interval_ms=15_000,
    stall_timeout_ms=120_000,
    overdue_ms=5_000,
    counters_timeout_ms=2_000,
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
        self.probe = 0
        self.probe_fails_at_ms = math.inf

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

    def silence(
        self,
        until_ms: float = math.inf,
        counters: Callable[[float], Counters | None] = lambda _: None,
    ) -> list[Command]:
        """Let every probe time out and read ``counters`` until the engine is ended, or until then.

        Return the command that ends it.
        """
        while True:
            deadline_ms = self.machine.next_deadline_ms
            assert deadline_ms is not None
            if min(self.probe_fails_at_ms, deadline_ms) > until_ms:
                self.now_mono_ms = until_ms
                return []
            if self.probe_fails_at_ms <= deadline_ms:
                self.now_mono_ms, self.probe_fails_at_ms = self.probe_fails_at_ms, math.inf
                assert self.on(ProbeFailed(self.probe, "no answer")) == []
                continue
            for command in self.at_deadline():
                if isinstance(command, SendProbe):
                    self.probe = command.probe
                    self.probe_fails_at_ms = self.now_mono_ms + command.timeout_ms
                elif isinstance(command, ReadCounters):
                    read = counters(self.now_mono_ms)
                    if ended := self.on(CountersRead(command.reading, read)):
                        return ended
                else:
                    return [command]

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


def test_an_absent_engine_has_no_deadline(told: Told) -> None:
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
    assert told.on(ProbeSucceeded(2)) == [SendProbe(3, ProbeKind.GENERATION, 120_000)]
    assert told.state is EngineState.WARMING
    assert told.on(ProbeFailed(3, "500")) == []
    assert told.state is EngineState.WARMING
    assert told.after(250) == [SendProbe(4, ProbeKind.GENERATION, 120_000)]
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


def test_a_long_healthy_time_clears_earlier_failures(told: Told) -> None:
    told.on(StartRequested())
    for generation in (1, 2):
        told.on(ProcessExited(generation, "exit code 1"))
        told.at_deadline()
    told.on(ProcessExited(3, "exit code 1"))
    told.ready()
    told.now_mono_ms += 60_000
    told.on(ProcessExited(4, "killed by signal 9"))
    assert told.after(500) == [SpawnProcess(5)]


def test_a_short_healthy_time_keeps_earlier_failures(told: Told) -> None:
    told.on(StartRequested())
    told.on(ProcessExited(1, "exit code 1"))
    told.ready()
    told.now_mono_ms += 59_999
    told.on(ProcessExited(2, "killed by signal 9"))
    assert told.after(999) == []
    assert told.after(1) == [SpawnProcess(3)]


def test_an_error_that_no_retry_can_fix_is_failed_at_once(told: Told) -> None:
    told.on(StartRequested())
    told.on(ProcessNotStarted(1, "no such file: python", retryable=False))
    assert told.state is EngineState.FAILED
    assert told.machine.last_error == "no such file: python"


def test_a_spawn_that_may_work_later_is_retried_soon(told: Told) -> None:
    told.on(StartRequested())
    told.on(ProcessNotStarted(1, "cannot fork", retryable=True))
    assert told.state is EngineState.BACKOFF
    assert told.after(500) == [SpawnProcess(2)]


def test_a_ready_engine_without_progress_is_probed_and_its_counters_read_when_that_is_overdue(
    told: Told,
) -> None:
    told.ready()
    assert told.after(14_999) == []
    assert told.after(1) == [SendProbe(3, ProbeKind.GENERATION, 30_000)]
    assert told.after(4_999) == []
    assert told.after(1) == [ReadCounters(1, 2_000)]
    assert told.on(CountersRead(1, (b"tokens 7",))) == []
    assert told.on(ProbeSucceeded(3)) == []
    assert told.after(14_999) == []
    assert told.after(1) == [SendProbe(4, ProbeKind.GENERATION, 30_000)]
    assert told.state is EngineState.READY


def test_a_probe_answered_in_time_reads_no_counters(told: Told) -> None:
    told.ready()
    for _ in range(10):
        [probe] = told.after(15_000)
        assert isinstance(probe, SendProbe)
        told.now_mono_ms += 4_000
        assert told.on(ProbeSucceeded(probe.probe)) == []


def test_16_streams_on_8_places_for_minutes_are_progress_and_need_no_probe(told: Told) -> None:
    told.ready()
    for _ in range(10 * 60):
        told.now_mono_ms += 1_000
        assert told.on(ProgressSeen(told.now_mono_ms)) == []
        assert told.on(DeadlinePassed()) == []
    assert told.state is EngineState.READY


def test_probe_timeouts_behind_a_long_queue_end_no_engine_that_makes_progress(
    told: Told,
) -> None:
    """A token just often enough for each to come before the stall timeout, and no more."""
    told.ready()
    probes = set()
    for _ in range(10):
        assert told.silence(told.now_mono_ms + 119_999) == []
        assert told.on(ProgressSeen(told.now_mono_ms)) == []
        probes.add(told.probe)
    assert told.state is EngineState.READY
    assert len(probes) == 10, "they were sent, and timed out"


def test_an_engine_without_any_progress_for_the_stall_timeout_is_killed(told: Told) -> None:
    """A stopped process: it answers neither probes nor the reading of its counters."""
    told.ready()
    ready_ms = told.now_mono_ms
    assert told.silence() == [KillProcess(1)]
    assert 120_000 <= told.now_mono_ms - ready_ms <= 120_000 + 2_000
    assert told.state is EngineState.STOPPING
    assert told.after(5_000) == [KillProcess(1)]
    told.on(ProcessExited(1, "killed by signal 9"))
    assert told.state is EngineState.BACKOFF
    assert told.machine.last_error == "ready, but made no progress for 120 s: no answer"


def test_counters_that_do_not_move_are_no_progress(told: Told) -> None:
    """The HTTP server answers but its core hangs. The time counts from the first reading."""
    told.ready()
    ready_ms = told.now_mono_ms
    assert told.silence(counters=lambda _: (b"tokens 7",)) == [KillProcess(1)]
    assert 140_000 <= told.now_mono_ms - ready_ms <= 142_000


def test_a_long_prefill_moves_the_counters_alone_and_is_progress(told: Told) -> None:
    told.ready()
    began_ms = told.now_mono_ms
    probes = 0
    while told.now_mono_ms < began_ms + 600_000:
        for command in told.at_deadline():
            if isinstance(command, ReadCounters):
                cache = b"kv_cache %d" % told.now_mono_ms
                assert told.on(CountersRead(command.reading, (cache,))) == []
            else:
                assert isinstance(command, SendProbe)
                probes += 1  # never answered: it waits in the engine's queue
    assert told.state is EngineState.READY
    assert probes <= 2, "while the counters move no probe joins the line"


def test_counters_that_stop_moving_are_a_stall_from_then_on(told: Told) -> None:
    told.ready()
    stops_ms = told.now_mono_ms + 300_000
    kill = told.silence(counters=lambda now_ms: (b"tokens %d" % min(now_ms, stops_ms),))
    assert kill == [KillProcess(1)]
    assert 120_000 <= told.now_mono_ms - stops_ms <= 140_000


@pytest.mark.parametrize("source", ["token", "probe", "counters"])
def test_progress_just_before_the_stall_timeout_keeps_an_engine(told: Told, source: str) -> None:
    told.ready()
    began_ms = told.now_mono_ms

    def counters(now_ms: float) -> Counters | None:
        return (b"tokens %d" % (now_ms >= began_ms + 119_000),) if source == "counters" else None

    assert told.silence(began_ms + 119_999, counters) == []
    if source == "token":
        assert told.on(ProgressSeen(told.now_mono_ms)) == []
    elif source == "probe":
        assert told.on(ProbeSucceeded(told.probe)) == []
        told.probe_fails_at_ms = math.inf
    assert told.silence(began_ms + 230_000, counters) == []
    assert told.state is EngineState.READY


def test_a_probe_that_is_lost_is_repeated(told: Told) -> None:
    told.ready()
    [lost] = told.after(15_000)
    assert isinstance(lost, SendProbe)
    [reading] = told.after(5_000)
    assert isinstance(reading, ReadCounters)
    told.on(CountersRead(reading.reading, None))
    assert told.after(15_000) == [ReadCounters(2, 2_000)]
    told.on(CountersRead(2, None))
    assert told.after(12_000) == []
    [again] = told.after(1_000)
    assert isinstance(again, SendProbe)
    assert told.on(ProbeSucceeded(lost.probe)) == [], "the lost one's late answer is not this one's"
    assert told.on(ProbeSucceeded(again.probe)) == []
    assert told.after(14_999) == []


def test_a_lost_reading_of_the_counters_delays_no_decision(told: Told) -> None:
    told.ready()
    began_ms = told.now_mono_ms
    while (commands := told.at_deadline()) != [KillProcess(1)]:
        for command in commands:
            if isinstance(command, SendProbe):
                told.on(ProbeFailed(command.probe, "no answer"))
    assert told.now_mono_ms - began_ms <= 120_000 + 2_000 + 2_000


@pytest.mark.parametrize("reason", ["/v1/completions answers 500", "connection refused"])
def test_an_engine_that_fails_its_probe_while_streams_flow_is_left_running(
    told: Told, reason: str
) -> None:
    told.ready()
    told.now_mono_ms += 20_000
    [probe] = told.on(DeadlinePassed())
    for _ in range(300):
        assert isinstance(probe, SendProbe)
        assert told.on(ProbeFailed(probe.probe, reason)) == []
        told.now_mono_ms += 1_000
        told.on(ProgressSeen(told.now_mono_ms))
        commands = told.after(15_000)
        probe = next(command for command in commands if isinstance(command, SendProbe))
    assert told.state is EngineState.READY


def test_an_agent_that_was_paused_probes_before_it_ends_an_engine_as_stalled(
    told: Told,
) -> None:
    told.ready()
    [probe] = told.after(10 * 120_000)
    assert isinstance(probe, SendProbe)
    [reading] = told.after(5_000)
    assert told.on(CountersRead(reading.reading, None)) == []
    assert told.on(ProbeSucceeded(probe.probe)) == []
    assert told.state is EngineState.READY


def test_progress_of_an_earlier_process_or_in_the_future_is_ignored(told: Told) -> None:
    told.on(StartRequested())
    told.on(ProgressSeen(told.now_mono_ms))
    told.on(ProcessExited(1, "exit code 1"))
    told.ready()
    ready_ms = told.now_mono_ms
    told.on(ProgressSeen(ready_ms - 1))
    told.on(ProgressSeen(ready_ms + 1e9))
    assert told.silence() == [KillProcess(told.machine.generation)]
    assert told.now_mono_ms - ready_ms <= 122_000


def test_a_warm_up_that_makes_progress_may_take_longer_than_a_start(told: Told) -> None:
    """Its first generation waits behind others, or behind a compilation that counts tokens."""
    told.on(StartRequested())
    told.after(250)
    [probe] = told.on(ProbeSucceeded(1))
    assert probe == SendProbe(2, ProbeKind.GENERATION, 120_000)
    stops_ms = told.now_mono_ms + 200_000
    kill = told.silence(counters=lambda now_ms: (b"tokens %d" % min(now_ms, stops_ms),))
    assert kill == [KillProcess(1)]
    assert 100_000 <= told.now_mono_ms - stops_ms <= 122_000
    assert str(told.machine.last_error).startswith("not ready within 60 s")


def test_a_warm_up_without_progress_ends_with_the_start_timeout(told: Told) -> None:
    told.on(StartRequested())
    began_ms = told.now_mono_ms
    told.after(250)
    told.on(ProbeSucceeded(1))
    assert told.silence(counters=lambda _: (b"tokens 0",)) == [KillProcess(1)]
    assert told.now_mono_ms - began_ms == 60_000


def test_a_stop_sends_sigterm_first_and_sigkill_later(told: Told) -> None:
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
