"""Five sites in simulated time: what the whole of placement does, not its parts.

Nothing here depends on how busy this machine is: the clock is simulated, and chance has a seed.
"""

from __future__ import annotations

import random

import pytest

from agent.core.exploration import EXPLORE_RATIO
from agent.core.hedging import HEDGE_RATIO
from protos.domain.trace import AttemptOutcome, AttemptPurpose
from tests.support.simulated_agent import usage_of
from tests.support.simulated_wan import RIVALS, Wan
from tests.support.wan_world import BUDGETS_MS, arrivals, synthetic_lines

LENGTH_MS = 120_000.0
LINES = synthetic_lines(random.Random(3), 4_000)


def wan(budgets_ms=tuple(BUDGETS_MS), length_ms=LENGTH_MS, **how):
    return Wan(arrivals(LINES, budgets_ms, length_ms, 7), length_ms, 7, **how)


def within(requests, budget_ms=None):
    """Share of requests answered in their budget; refused ones are not."""
    asked = [each for each in requests if budget_ms in (None, each.arrival.budget_ms)]
    kept = [
        each
        for each in asked
        if each.ttft_ms is not None and each.ttft_ms <= each.arrival.budget_ms
    ]
    return len(kept) / len(asked)


@pytest.fixture(scope="module")
def mixed():
    fleet = wan()
    fleet.run()
    return fleet


def test_the_same_seed_gives_the_same_run(mixed):
    again = wan().run()
    assert [each.ttft_ms for each in again.requests] == [
        each.ttft_ms for each in mixed.run_.requests
    ]


def test_every_request_is_answered_once_and_leaves_nothing_behind(mixed):
    for request in mixed.run_.requests:
        outcomes = [each.outcome for each in request.log.attempts]
        assert (request.heads, request.ends, request.errors) == (1, 1, 0)
        assert outcomes.count(AttemptOutcome.ANSWERED) == 1
        assert len(outcomes) == len(request.sent)
        assert request.log.usage == usage_of(request.arrival)
    for agent in mixed.agents.values():
        live = agent.state.live
        for node_id in mixed.nodes:
            assert live.in_flight(node_id) == 0
            assert live.backlog(node_id, mixed.now_ms)[0] == 0.0
    for node in mixed.nodes.values():
        assert node.engine.in_flight == node.queue.serving == node.queue.waiting == 0


def test_second_copies_and_explorations_stay_within_their_shares(mixed):
    for agent in mixed.agents.values():
        assert agent.state.hedges.share <= HEDGE_RATIO
        assert agent.state.exploration.budget.share <= EXPLORE_RATIO
    assert sum(agent.state.hedges.sent for agent in mixed.agents.values()) > 0
    assert sum(agent.state.exploration.budget.sent for agent in mixed.agents.values()) > 0


def test_more_budgets_are_kept_than_by_any_rival(mixed):
    for policy in RIVALS:
        rival = wan(policy=policy).run()
        assert within(mixed.run_.requests) > within(rival.requests) + 0.05
        assert within(mixed.run_.requests, 80) > within(rival.requests, 80) + 0.05


def test_in_bursts_agents_do_not_run_to_the_same_target(mixed):
    """A target's last word is a second old: what was sent since is counted on top of it."""
    run = mixed.run_
    assert run.sent > 1_000
    assert run.herded / run.sent < 0.01


def test_a_strict_deployment_promises_little_and_keeps_it():
    run = wan(strict=True).run()
    answered = [each for each in run.requests if each.ttft_ms is not None]
    refused = [each for each in run.requests if each.log.shed]
    assert len(answered) + len(refused) == len(run.requests)
    served = [each for each in answered if not each.has(AttemptPurpose.TRIAL)]
    assert within(served) > 0.98


def test_a_slow_half_minute_does_not_close_a_fleet_to_its_strict_deployment():
    """Refused requests teach nothing: without trials nine of ten were refused minutes later."""
    fleet = wan((80,), 210_000.0, strict=True)
    for node in fleet.nodes.values():
        usual = node.engine.slowness
        node.engine.slowness = lambda now_ms, usual=usual: (
            usual(now_ms) * (5.0 if 60_000.0 <= now_ms < 90_000.0 else 1.0)
        )
    run = fleet.run()

    def refused(from_s, to_s):
        part = [each for each in run.requests if from_s <= each.arrival.at_ms / 1_000.0 < to_s]
        return sum(bool(each.log.shed) for each in part) / len(part)

    assert refused(65, 90) > 0.3, "an engine five times as slow cannot keep 80 ms"
    assert refused(165, 210) < 0.2
    assert sum(agent.state.half_open.sent for agent in fleet.agents.values()) > 0
