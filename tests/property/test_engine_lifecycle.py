"""The engine's machine under any order of events: its laws."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.core.backoff import BackoffPolicy
from agent.core.engine_lifecycle import (
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
    start_timeout_ms=5_000,
    live_probe_interval_ms=2_000,
    generate_timeout_ms=1_000,
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
