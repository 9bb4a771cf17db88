"""The running attempts of one request."""

from __future__ import annotations

from agent.core.live import EJECT_AFTER_LATE
from agent.core.request.bookkeeping import Bookkeeping
from agent.core.request.messages import Cancel
from agent.core.request.placing import Placer
from agent.core.request.running import RunningAttempts
from protos.domain.trace import AttemptOutcome, AttemptPurpose
from tests.support.router_states import SELF, request_context, request_log, router_state


class World:
    """Attempts of one request that has 1,000 ms, or ``budget_ms``."""

    def __init__(self, budget_ms: float = 1_000.0) -> None:
        self.state, self.log = router_state(), request_log()
        request = request_context(self.state, budget_ms=budget_ms)
        self.placer = Placer(self.state, request)
        books = Bookkeeping(self.state, request, self.log)
        self.running = RunningAttempts(self.state, self.placer, books)

    def begin(self, purpose: AttemptPurpose = AttemptPurpose.SERVE, now: float = 0.0):
        return self.running.begin(self.placer.place(now), purpose, now)


def test_every_attempt_gets_the_next_number_and_its_node_is_not_chosen_again():
    world = World()
    first = world.begin()
    world.running.ended(first, 1.0)
    second = world.begin()
    assert (first.number, second.number) == (1, 2)
    assert first.node_id != second.node_id
    assert world.placer.tried == {first.node_id, second.node_id}
    assert world.running.attempts == [second]


def test_an_attempt_remembers_the_budget_that_it_was_chosen_with():
    assert World().begin(now=100.0).budget_left_ms == 900.0


def test_only_tokens_of_the_own_engine_fill_it():
    world = World(budget_ms=150.0)
    own = world.begin()
    assert own.node_id == SELF
    own.tokens.count(60, 0.0)
    assert world.state.own_fill.tokens_per_s(0.0) == 1.0
    other = world.begin()
    other.tokens.count(60, 0.0)
    assert world.state.own_fill.tokens_per_s(0.0) == 1.0


def test_a_continued_stream_counts_its_tokens_at_its_new_node():
    world = World()
    broken = world.begin()
    broken.tokens.count(1, 5.0)
    world.running.ended(broken, 6.0)
    world.placer.tried = frozenset(("iad-1", "scl-1"))
    rest = world.running.begin(world.placer.place(6.0), AttemptPurpose.REST, 6.0, resumes=broken)
    rest.tokens.count(1, 7.0)
    assert rest.node_id == SELF
    assert list(broken.tokens.times_mono_ms) == [5.0, 7.0]
    assert world.state.own_fill.tokens_per_s(7.0) > 0.0


def test_the_winner_cuts_the_others_and_those_before_it_were_late():
    world = World()
    first, second = world.begin(), world.begin(AttemptPurpose.SECOND_COPY)
    assert world.running.overtaken_by(second, 50.0) == [Cancel(first)]
    assert [each.outcome for each in world.log.attempts] == [AttemptOutcome.OVERTAKEN]
    assert world.running.attempts == [second]
    assert world.running.overtaken_by(second, 51.0) == []
    for _ in range(EJECT_AFTER_LATE - 1):
        world.state.live.late(first.node_id, 50.0)
    assert world.state.live.is_ejected(first.node_id, 51.0), "it was one of so many late ones"


def test_a_second_copy_that_lost_was_not_late():
    world = World()
    first, second = world.begin(), world.begin(AttemptPurpose.SECOND_COPY)
    assert world.running.overtaken_by(first, 50.0) == [Cancel(second)]
    for _ in range(EJECT_AFTER_LATE - 1):
        world.state.live.late(second.node_id, 50.0)
    assert not world.state.live.is_ejected(second.node_id, 51.0)


def test_all_attempts_can_be_cut_at_once_and_leave_no_load():
    world = World()
    both = [world.begin(), world.begin(AttemptPurpose.SECOND_COPY)]
    cut = world.running.cut_all(AttemptOutcome.CLIENT_GONE, 9.0)
    assert cut == [Cancel(attempt) for attempt in both]
    assert world.running.attempts == []
    assert all(world.state.live.in_flight(attempt.node_id) == 0 for attempt in both)
