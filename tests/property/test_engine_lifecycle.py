"""Laws of the engine's machine under any order of events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

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
from agent.core.engine_policy import EnginePolicy
from agent.core.engine_status import EngineState

POLICY = EnginePolicy(
    start_timeout_ms=5_000,
    live_probe_interval_ms=2_000,
    generate_timeout_ms=1_000,
    stall_timeout_ms=8_000,
    overdue_ms=500,
    stop_grace_ms=1_000,
    backoff=BackoffPolicy(100, 1_000),
    start_failures=3,
    failed_retry_ms=10_000,
)
WAITING = {
    EngineState.STARTING,
    EngineState.WARMING,
    EngineState.READY,
    EngineState.STOPPING,
    EngineState.BACKOFF,
    EngineState.FAILED,
}


class World(RuleBasedStateMachine):
    """Performs commands on a process that may do anything, and checks every law."""

    def __init__(self) -> None:
        super().__init__()
        self.now_mono_ms = 0.0
        self.machine = EngineLifecycle(POLICY, 0.0)
        self.alive: int | None = None
        self.wanted = False
        self.probe: SendProbe | None = None
        self.reading: ReadCounters | None = None
        self.generated_by: int | None = None
        self.last_generation = 0

    def tell(self, event: Event, draw: float = 0.5) -> None:
        for command in self.machine.handle(event, self.now_mono_ms, draw):
            match command:
                case SpawnProcess(generation):
                    assert self.alive is None, "two processes at once"
                    assert self.wanted, "a start that nobody wanted"
                    assert generation == self.last_generation + 1
                    self.last_generation = generation
                    self.alive = generation
                    self.probe = None
                case SendProbe():
                    assert self.alive is not None, "a probe to nobody"
                    self.probe = command
                case ReadCounters():
                    assert self.alive is not None, "a reading of nothing"
                    assert self.machine.state in (EngineState.WARMING, EngineState.READY)
                    self.reading = command
                case TerminateProcess(generation) | KillProcess(generation):
                    assert generation == self.alive, "an end to what is not there"
                    self.probe = None

    @rule()
    def start(self) -> None:
        self.wanted = True
        self.tell(StartRequested())

    @rule()
    def stop(self) -> None:
        self.wanted = False
        self.tell(StopRequested())

    @precondition(lambda self: self.alive is not None)
    @rule()
    def started(self) -> None:
        assert self.alive is not None
        self.tell(ProcessStarted(self.alive, 1))

    @precondition(lambda self: self.alive is not None)
    @rule(draw=st.floats(0, 1))
    def exited(self, draw: float) -> None:
        generation, self.alive, self.probe = self.alive, None, None
        assert generation is not None
        before_ms = self.now_mono_ms
        self.tell(ProcessExited(generation, "exit"), draw)
        if self.machine.state is EngineState.BACKOFF:
            deadline_ms = self.machine.next_deadline_ms
            assert deadline_ms is not None
            assert 0 <= deadline_ms - before_ms <= POLICY.backoff.cap_ms

    @precondition(lambda self: self.machine.state is EngineState.STARTING)
    @rule(retryable=st.booleans())
    def not_started(self, retryable: bool) -> None:
        generation, self.alive, self.probe = self.alive, None, None
        assert generation is not None
        self.tell(ProcessNotStarted(generation, "no fork", retryable=retryable))

    @precondition(lambda self: self.probe is not None)
    @rule(good=st.booleans())
    def probed(self, good: bool) -> None:
        probe, self.probe = self.probe, None
        assert probe is not None
        if good and probe.kind is ProbeKind.GENERATION:
            self.generated_by = self.alive
        self.tell(ProbeSucceeded(probe.probe) if good else ProbeFailed(probe.probe, "no"))

    @precondition(lambda self: self.reading is not None)
    @rule(count=st.none() | st.integers(0, 2))
    def read(self, count: int | None) -> None:
        reading, self.reading = self.reading, None
        assert reading is not None
        counters = None if count is None else (b"tokens %d" % count,)
        self.tell(CountersRead(reading.reading, counters))

    @rule(ago_ms=st.floats(-1_000, 20_000))
    def token(self, ago_ms: float) -> None:
        before = self.machine.state
        self.tell(ProgressSeen(self.now_mono_ms - ago_ms))
        assert self.machine.state is before

    @rule(delay_ms=st.floats(0, 20_000))
    def time_passes(self, delay_ms: float) -> None:
        self.now_mono_ms += delay_ms
        self.tell(DeadlinePassed())

    @precondition(lambda self: self.machine.next_deadline_ms is not None)
    @rule()
    def deadline(self) -> None:
        assert self.machine.next_deadline_ms is not None
        self.now_mono_ms = max(self.now_mono_ms, self.machine.next_deadline_ms)
        self.tell(DeadlinePassed())

    @rule(generation=st.integers(-1, 3), probe=st.integers(-1, 3))
    def stale(self, generation: int, probe: int) -> None:
        if generation != self.alive:
            before = self.machine.state
            self.tell(ProcessExited(generation, "stale"))
            assert self.machine.state is before
        if self.probe is None:
            before = self.machine.state
            self.tell(ProbeFailed(probe - 10, "stale"))
            assert self.machine.state is before

    @invariant()
    def ready_means_that_this_process_generated(self) -> None:
        if self.machine.state is EngineState.READY:
            assert self.generated_by == self.alive

    @invariant()
    def waiting_has_a_deadline(self) -> None:
        has_deadline = self.machine.next_deadline_ms is not None
        assert has_deadline == (self.machine.state in WAITING)

    @invariant()
    def the_state_agrees_with_the_process(self) -> None:
        dead = {EngineState.ABSENT, EngineState.BACKOFF, EngineState.FAILED}
        assert (self.machine.state in dead) == (self.alive is None)
        if not self.wanted:
            assert self.machine.state in (EngineState.ABSENT, EngineState.STOPPING)


TestEngineLifecycle = World.TestCase

_OUTCOMES = st.sampled_from(("answered", "failed", "lost"))
_COUNTERS = st.none() | st.integers(0, 1).map(lambda count: (b"tokens %d" % count,))


class Ready:
    """A ready engine; ``pass_time`` keeps its deadlines and ends probes and readings as drawn."""

    def __init__(self, data: st.DataObject) -> None:
        self.now_mono_ms = 0.0
        self.data = data
        self.machine = EngineLifecycle(POLICY, 0.0)
        self.ended: list[Command] = []
        #: Events to come, and when.
        self.due: list[tuple[float, Event]] = []
        self.tell(StartRequested())
        self.pass_time(POLICY.start_probe_interval_ms, answers=True)
        self.pass_time(1.0, answers=True)
        assert self.machine.state is EngineState.READY

    def tell(self, event: Event, *, answers: bool = False) -> None:
        for command in self.machine.handle(event, self.now_mono_ms, 0.5):
            match command:
                case SendProbe(probe, _, timeout_ms):
                    outcome = "answered" if answers else self.data.draw(_OUTCOMES)
                    took_ms = 0.5 if answers else self.data.draw(st.floats(0, timeout_ms))
                    if outcome == "answered":
                        self.due.append((self.now_mono_ms + took_ms, ProbeSucceeded(probe)))
                    elif outcome == "failed":
                        self.due.append((self.now_mono_ms + took_ms, ProbeFailed(probe, "no")))
                case ReadCounters(reading, timeout_ms):
                    took_ms = self.data.draw(st.floats(0, timeout_ms))
                    read = CountersRead(reading, self.data.draw(_COUNTERS))
                    self.due.append((self.now_mono_ms + took_ms, read))
                case TerminateProcess() | KillProcess():
                    self.ended.append(command)
                case SpawnProcess():
                    pass

    def pass_time(self, delay_ms: float, *, answers: bool = False) -> None:
        until_ms = self.now_mono_ms + delay_ms
        while True:
            self.due.sort(key=lambda one: one[0])
            deadline_ms = self.machine.next_deadline_ms
            assert deadline_ms is not None
            if self.due and self.due[0][0] <= min(deadline_ms, until_ms):
                self.now_mono_ms, event = self.due.pop(0)
                self.tell(event, answers=answers)
            elif deadline_ms <= until_ms:
                self.now_mono_ms = max(self.now_mono_ms, deadline_ms)
                self.tell(DeadlinePassed(), answers=answers)
            else:
                self.now_mono_ms = until_ms
                return


@given(st.data())
def test_while_progress_comes_within_the_stall_timeout_no_probe_ends_a_ready_engine(
    data: st.DataObject,
) -> None:
    ready = Ready(data)
    below_ms = POLICY.stall_timeout_ms - 0.01
    for gap_ms in data.draw(st.lists(st.floats(0, below_ms), min_size=1, max_size=8)):
        ready.pass_time(gap_ms)
        ready.tell(ProgressSeen(ready.now_mono_ms))
    assert ready.ended == []
    assert ready.machine.state is EngineState.READY


@given(st.data(), st.booleans())
def test_without_any_progress_an_engine_is_ended_within_a_bound(
    data: st.DataObject, has_counters: bool
) -> None:
    machine = Ready(data).machine
    now_ms, limit_ms = machine.since_mono_ms, POLICY.stall_timeout_ms
    bound_ms = now_ms + limit_ms + POLICY.counters_timeout_ms + 2_000 + 2_000
    # a first reading just before the timeout restarts the time
    bound_ms += limit_ms if has_counters else 0.0
    while machine.state is EngineState.READY:
        assert machine.next_deadline_ms is not None
        now_ms = max(now_ms, machine.next_deadline_ms)
        assert now_ms <= bound_ms
        for command in machine.handle(DeadlinePassed(), now_ms, 0.5):
            if isinstance(command, ReadCounters) and data.draw(st.booleans()):
                counters = (b"tokens 7",) if has_counters else None
                machine.handle(CountersRead(command.reading, counters), now_ms, 0.5)
    assert machine.state is EngineState.STOPPING
