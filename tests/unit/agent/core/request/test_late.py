"""What is done while a first token is late."""

from __future__ import annotations

from agent.core.hedging import HedgeBudget
from agent.core.request.bookkeeping import Bookkeeping
from agent.core.request.late import LateFirstToken
from agent.core.request.placing import Placer
from agent.core.request.running import RunningAttempts
from agent.core.request.timing import LOOK_AGAIN_MS, RequestPolicy, RequestTimers
from protos.domain.trace import AttemptPurpose
from tests.support.router_states import request_context, request_log, router_state


class World:
    """One request with a running attempt; ``copies`` second copies are left."""

    def __init__(self, copies: int = 1) -> None:
        state = router_state()
        hedges = HedgeBudget(1.0)
        for _ in range(copies):
            hedges.earn()
        request = request_context(state, budget_ms=1_000.0)
        self.placer = Placer(state, request)
        books = Bookkeeping(state, request, request_log())
        self.running = RunningAttempts(state, self.placer, books)
        self.timers = RequestTimers(RequestPolicy())
        self.late = LateFirstToken(hedges, self.placer, books, self.running, self.timers)
        self.first = self.running.begin(self.placer.place(0.0), AttemptPurpose.SERVE, 0.0)


def test_a_second_copy_goes_to_another_node_at_the_tier_of_the_first():
    world = World()
    copy = world.late.second_copy(30.0)
    assert copy is not None
    assert copy.node_id != world.first.node_id
    assert copy.placement.billing_tier is world.first.placement.billing_tier
    assert copy.purpose is AttemptPurpose.SECOND_COPY


def test_no_second_copy_without_a_share_or_beside_another_copy():
    assert World(copies=0).late.second_copy(30.0) is None
    world = World(copies=2)
    world.late.second_copy(30.0)
    assert world.late.second_copy(40.0) is None


def test_an_attempt_is_replaced_only_after_its_deadline():
    world = World()
    assert world.late.replacement(100.0) is None
    assert world.running.attempts == [world.first]
    replacement = world.late.replacement(10_000.0)
    assert replacement is not None
    cancel, other = replacement
    assert cancel.attempt is world.first
    assert other.chosen.node.id != world.first.node_id
    assert world.placer.late == {world.first.node_id}


def test_without_another_target_the_next_look_is_set():
    world = World()
    world.placer.tried = frozenset({"gru-1", "scl-1", "iad-1"})
    assert world.late.replacement(10_000.0) is None
    assert world.timers.next_mono_ms >= 10_000.0 + LOOK_AGAIN_MS
