"""How a request's attempts change the state shared by all requests, and the request's log."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.core.half_open import HalfOpenTargets
from agent.core.live import EJECT_AFTER_LATE
from agent.core.peer_load import PeerLoad
from agent.core.peer_state import EJECT_AFTER_FAILURES
from agent.core.prefixes import prompt_blocks
from agent.core.request.attempt import Attempt, Finding
from agent.core.request.bookkeeping import Bookkeeping, far_times
from agent.core.request.context import RequestContext
from agent.core.request.log import RequestLog
from agent.core.request.state import RouterState
from agent.core.usage_bounds import AskedTokens, UsageCheck
from protos.domain.pricing import Usage
from protos.domain.resources import Tier
from protos.domain.trace import AttemptOutcome, AttemptPurpose, FarTimes
from protos.domain.usage_record import UsageCause
from tests.support import fleets
from tests.support.router_states import (
    SELF,
    attempt_at,
    request_context,
    request_log,
    router_state,
)

COMPLETE = UsageCause.COMPLETE
SAID = FarTimes(1.0, 2.0, 30.0)
BLOCKS = prompt_blocks(b"x" * 1_024, fleets.MODEL, "acme")


class World:
    """One request, its shared state and its log."""

    def __init__(self, places: int = 4, **changes: Any) -> None:
        self.state: RouterState = router_state(places=places)
        self.request: RequestContext = request_context(self.state, **changes)
        self.log: RequestLog = request_log()
        self.books = Bookkeeping(self.state, self.request, self.log)

    def ask(self, node_id: str, now_mono_ms: float = 0.0, **changes: Any) -> Attempt:
        attempt = attempt_at(self.state, self.request, node_id, now_mono_ms, **changes)
        self.books.asked(attempt)
        return attempt

    def first_token(
        self, attempt: Attempt, now_mono_ms: float, load: PeerLoad | None = None
    ) -> None:
        attempt.first_token_mono_ms = now_mono_ms
        self.books.first_token(attempt, load, now_mono_ms)

    def outcomes(self, node_id: str) -> int:
        learned = self.state.predictor.of_model(fleets.MODEL).get(node_id)
        return 0 if learned is None else learned.observations

    def predicted(self) -> int:
        return self.state.coverage.by_basis("profile").seen

    def backlog_tokens(self, node_id: str) -> float:
        return self.state.live.backlog(node_id, 0.0)[0]


# --- asked


@pytest.mark.parametrize(("node_id", "places_taken"), [(SELF, 1), ("scl-1", 0)])
def test_only_an_attempt_at_the_own_engine_takes_a_place_there(
    node_id: str, places_taken: int
) -> None:
    world = World()
    attempt = world.ask(node_id)
    assert world.state.engine_door.serving == places_taken
    assert world.state.live.in_flight(node_id) == 1
    world.books.left(attempt, 10.0, cut=False)
    assert world.state.engine_door.serving == 0
    assert world.state.live.in_flight(node_id) == 0


def test_the_request_is_placed_when_its_first_attempt_is_asked() -> None:
    world = World()
    world.ask("scl-1", 3.0)
    world.ask("iad-1", 9.0)
    assert world.log.placed_mono_ms == 3.0


def test_the_asked_engine_is_expected_to_cache_the_prompt() -> None:
    world = World(blocks=BLOCKS)
    assert world.state.targets(fleets.MODEL, 0.0, BLOCKS)("scl-1").cached_ratio == 0.0
    world.ask("scl-1")
    assert world.state.targets(fleets.MODEL, 0.0, BLOCKS)("scl-1").cached_ratio > 0.0


@pytest.mark.parametrize(("stream", "tokens"), [(True, 111.0), (False, 0.0)])
def test_a_prompt_is_in_the_backlog_only_if_its_first_token_is_observable(
    stream: bool, tokens: float
) -> None:
    world = World(stream=stream)
    world.ask("scl-1")
    assert world.backlog_tokens("scl-1") == tokens


def test_a_continued_stream_gives_no_first_token_outcome() -> None:
    world = World()
    rest = world.ask("iad-1", resumes=world.ask("scl-1"))
    world.first_token(rest, 50.0)
    assert world.backlog_tokens("iad-1") == 0.0
    assert world.outcomes("iad-1") == 0


# --- outcomes


def test_a_first_token_is_learned_once_and_removes_the_prompt_from_the_backlog() -> None:
    world = World()
    attempt = world.ask("scl-1")
    world.books.progressed(attempt, 90.0)
    world.first_token(attempt, 4_000.0)
    assert world.outcomes("scl-1") == world.predicted() == 1
    assert world.state.coverage.by_basis("profile").kept == 1, "progress came within the P99"
    assert world.backlog_tokens("scl-1") == 0.0


def test_an_attempt_that_was_cut_is_learned_as_taking_longer() -> None:
    world = World()
    attempt = world.ask("scl-1")
    world.books.left(attempt, 5_000.0, cut=True)
    assert world.outcomes("scl-1") == 1
    tally = world.state.coverage.by_basis("profile")
    assert (tally.seen, tally.kept) == (1, 0)


def test_an_attempt_that_failed_is_no_outcome() -> None:
    world = World()
    world.books.left(world.ask("scl-1"), 5_000.0, cut=False)
    assert world.outcomes("scl-1") == world.predicted() == 0
    assert world.backlog_tokens("scl-1") == 0.0


def test_an_attempt_cut_after_its_engine_generated_is_not_learned_as_late() -> None:
    """A client that leaves a stream of empty deltas is no evidence of the engine's speed."""
    world = World()
    attempt = world.ask("scl-1")
    world.books.progressed(attempt, 50.0)
    world.books.left(attempt, 3_000.0, cut=True)
    tally = world.state.coverage.by_basis("profile")
    assert (tally.seen, tally.kept) == (1, 1)


@pytest.mark.parametrize("comes", [True, False])
def test_a_trial_learns_whether_its_first_token_came_in_time(comes: bool) -> None:
    world = World()
    half_open = HalfOpenTargets()
    candidate = attempt_at(world.state, world.request, "scl-1").placement.chosen
    half_open.choose_trial([candidate], 1_000.0, 0.0)
    finding = Finding(AttemptPurpose.TRIAL, 1e9, 1_000.0, half_open, candidate)
    attempt = world.ask("scl-1", finding=finding)
    if comes:
        world.first_token(attempt, 900.0)
    world.books.left(attempt, 950.0, cut=not comes)
    tried_again = half_open.choose_trial([candidate], 1_000.0, 950.0)
    assert (tried_again is candidate) is comes


# --- peers


def test_a_peers_load_is_taken_from_the_head_of_its_answer() -> None:
    world = World()
    world.first_token(world.ask("scl-1"), 50.0, PeerLoad(3, 2, 0.5))
    state = world.state.targets(fleets.MODEL, 51.0)("scl-1")
    assert (state.in_flight, state.queued) == (3, 2)
    assert world.state.fill(51.0)("scl-1") == 0.5
    assert state.ready_models is None, "what it can serve is the probe's to say"


def test_a_draining_peer_is_ready_for_no_model() -> None:
    world = World()
    world.books.reported(world.ask("scl-1"), PeerLoad(0, 0, None, draining=True), 50.0)
    assert world.state.targets(fleets.MODEL, 51.0)("scl-1").ready_models == frozenset()


def test_failures_eject_and_an_answer_ends_that() -> None:
    world = World()
    attempt = world.ask("scl-1")
    for _ in range(EJECT_AFTER_FAILURES):
        world.books.failed("scl-1", 0.0, of_link=False, forget=False)
    assert world.state.live.is_ejected("scl-1", 1.0)
    world.books.succeeded(attempt)
    assert not world.state.live.is_ejected("scl-1", 1.0)


def test_late_first_tokens_eject_too() -> None:
    world = World()
    attempt = world.ask("scl-1")
    for _ in range(EJECT_AFTER_LATE):
        world.books.late(attempt, 0.0, another_in_time=True)
    assert world.state.live.is_ejected("scl-1", 1.0)
    assert not world.state.live.is_ejected("scl-1", 1.0, allow_late=True)


@pytest.mark.parametrize("forget", [True, False])
def test_the_cache_of_an_engine_that_may_be_a_new_one_is_forgotten(forget: bool) -> None:
    world = World(blocks=BLOCKS)
    world.ask("scl-1")
    world.books.failed("scl-1", 0.0, of_link=forget, forget=forget)
    cached_ratio = world.state.targets(fleets.MODEL, 0.0, BLOCKS)("scl-1").cached_ratio
    assert (cached_ratio == 0.0) is forget


# --- the log


def test_the_end_of_an_attempt_is_logged_with_what_it_was_chosen_from() -> None:
    world = World()
    attempt = world.ask("scl-1", 5.0, purpose=AttemptPurpose.SECOND_COPY)
    world.books.note(attempt, AttemptOutcome.FAILED, 25.0, "connection refused")
    (noted,) = world.log.attempts
    assert (noted.node_id, noted.outcome, noted.purpose) == (
        "scl-1",
        AttemptOutcome.FAILED,
        AttemptPurpose.SECOND_COPY,
    )
    assert (noted.began_mono_ms, noted.took_ms, noted.detail) == (5.0, 20.0, "connection refused")
    assert world.log.placements == [attempt.placement]


@pytest.mark.parametrize(("node_id", "by_peer"), [(SELF, False), ("scl-1", True)])
def test_the_answering_node_and_the_billed_tier_are_logged(node_id: str, by_peer: bool) -> None:
    world = World()
    attempt = world.ask(node_id)
    attempt.placement = replace(attempt.placement, billing_tier=Tier.CENTRAL)
    world.books.answering(attempt, 200)
    log = world.log
    assert (log.status, log.node_id, log.by_peer) == (200, node_id, by_peer)
    assert (log.serving_tier, log.billing_tier) == (
        attempt.placement.chosen.pop.tier,
        Tier.CENTRAL,
    )


def test_the_prediction_and_the_tiers_are_logged() -> None:
    world = World(budget_ms=10.0)
    placement = world.ask("scl-1").placement
    world.books.promised(placement)
    assert world.log.predicted_miss
    assert world.log.predicted_ttft_ms_p99 == placement.chosen.ttft_ms_p99
    assert world.log.serving_tier == placement.serving_tier


# --- accounting


def test_tokens_are_billed_at_the_attempts_tier_on_the_price_card_of_admission() -> None:
    world = World()
    attempt = world.ask("scl-1")
    newer = fleets.view(fleets.model(), fleets.price(Tier.REGIONAL, 99))
    world.state.view = lambda: newer
    world.first_token(attempt, 80.0)
    world.books.account(attempt, Usage(10, 0, 5), SAID, 200.0, COMPLETE, whole=False)
    log = world.log
    assert (log.cost.total_nano_usd, log.card_version) == (11 * 15, 1)
    assert (log.usage, log.first_token_mono_ms, log.asked_mono_ms) == (Usage(10, 0, 5), 80.0, 0.0)
    assert (log.far, log.tokens) == (SAID, attempt.tokens)


def test_an_answer_whose_tokens_were_not_counted_costs_nothing() -> None:
    world = World()
    attempt = world.ask("scl-1", 7.0)
    world.books.account(attempt, None, None, 200.0, COMPLETE, whole=False)
    assert world.log.cost.total_nano_usd == world.log.usage.prompt_tokens == 0
    assert world.log.asked_mono_ms == 7.0


def test_counted_tokens_teach_the_next_estimate_and_the_hit_ratio() -> None:
    world = World(blocks=BLOCKS, body_bytes=1_000)
    world.ask("scl-1")
    again = world.ask("scl-1", 1.0)
    believed = world.state.prefixes.hit_ratio("scl-1", fleets.MODEL)
    world.books.account(again, Usage(500, 10, 1), None, 100.0, COMPLETE, whole=False)
    name = world.request.deployment.name
    assert world.state.prompt_tokens.estimate(name, 1_000) == 500
    assert world.state.prefixes.hit_ratio("scl-1", fleets.MODEL) < believed


@pytest.mark.parametrize(
    ("node_id", "whole", "embeds", "tokens"),
    [
        (SELF, True, False, 5),
        (SELF, True, True, 10),
        (SELF, False, False, 0),  # a stream's tokens are counted while they are read
        ("scl-1", True, False, 0),
    ],
)
def test_a_whole_answer_counts_for_the_fill_of_the_own_engine(
    node_id: str, whole: bool, embeds: bool, tokens: int
) -> None:
    world = World()
    attempt = world.ask(node_id)
    world.request.embeds = embeds
    world.books.account(attempt, Usage(10, 0, 5), None, 0.0, COMPLETE, whole=whole)
    assert world.state.own_fill.tokens_per_s(0.0) == pytest.approx(tokens / 60.0)


def test_times_of_the_own_engine_are_measured_and_a_peers_are_reported() -> None:
    world = World(places=1)
    first, second, there = world.ask(SELF, 0.0), world.ask(SELF, 110.0), world.ask("scl-1", 0.0)
    world.books.left(first, 150.0, cut=False)
    assert far_times(second, SAID, 190.0) == FarTimes(0.0, 40.0, 80.0)
    assert far_times(there, SAID, 190.0) is SAID
    assert far_times(there, None, 190.0) is None


def test_a_count_that_a_host_exceeded_marks_the_request_counts_the_host_and_teaches_nothing() -> (
    None
):
    world = World(body_bytes=1_000)
    attempt = world.ask("scl-1")
    world.books.answering(attempt, 200)
    check = UsageCheck(AskedTokens(1_000, 4_096), lambda: 100)
    billed = check.checked(Usage(1_000_000, 0, 1_000_000), 3, 12, "scl-1")
    world.request.usage_check = check
    before = world.state.prompt_tokens.estimate(world.request.deployment.name, 1_000)
    world.books.account(attempt, billed, SAID, 200.0, COMPLETE, whole=False)
    assert world.log.usage_exceeded
    assert world.log.usage == billed == Usage(100, 0, 3)
    assert world.state.live.overclaims() == {"scl-1": 1}
    assert world.state.prompt_tokens.estimate(world.request.deployment.name, 1_000) == before


def test_a_copy_that_lost_and_lied_does_not_mark_the_answer_of_the_other() -> None:
    world = World()
    attempt = world.ask("scl-1")
    world.books.answering(attempt, 200)
    check = UsageCheck(AskedTokens(1_000, 4_096), lambda: 100)
    check.checked(Usage(1_000_000, 0, 1), 1, 1, "iad-1")
    world.request.usage_check = check
    world.books.account(attempt, Usage(10, 0, 5), SAID, 200.0, COMPLETE, whole=False)
    assert not world.log.usage_exceeded
    assert world.state.live.overclaims() == {"iad-1": 1}
