"""Agents at one account's limits, under hostile schedules. The laws of decision 0060."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from coordinator.core.quota_pool import CUT_OFF_PART_OF_MONEY, MOST_PART_OF_MONEY
from protos.domain.customers import AccountState, UsageLimits
from protos.domain.quota import LEASE_MARGIN_MS, LEASE_MS, QuotaKind, QuotaName
from tests.support.quota_world import QuotaWorld

MONEY = QuotaName(QuotaKind.MONEY, "acme")
BOUND = 20_000


def spend(world: QuotaWorld, chance: float = 0.2) -> None:
    """Ask at every agent, as often as chance has it."""
    draw = world.random
    for agent in world.agents:
        if draw.random() < chance:
            world.ask(
                agent,
                bound=BOUND,
                cost=draw.randrange(1, BOUND + 1),
                takes_ms=draw.uniform(50, 4_000),
            )


@pytest.mark.parametrize("seed", range(9))
def test_agents_in_contact_never_exceed_a_cap_however_messages_are_lost_repeated_and_late(
    seed: int,
) -> None:
    agents = (2, 5, 20)[seed % 3]
    world = QuotaWorld(agents, balance=1_500_000 * agents, seed=seed, loss=0.08, repeat=0.2)

    def every() -> None:
        spend(world)
        if world.random.random() < 0.000_5:
            world.restart_coordinator(world.random.uniform(0.0, 1_500.0))
        assert world.exposed <= world.start_balance

    world.run(120_000.0, every)
    assert world.spent >= 0.98 * world.start_balance, "the cap is used up, too"
    assert sum(sum(one.refused.values()) for one in world.agents) > 0


@pytest.mark.parametrize("seed", range(4))
def test_a_cap_that_is_lowered_stops_new_requests_within_five_seconds(seed: int) -> None:
    world = QuotaWorld(5, balance=1_000_000_000, seed=seed)
    world.run(20_000.0, lambda: spend(world))
    world.balance = 0
    world.run(25_000.0, lambda: spend(world))
    admitted = sum(one.admitted for one in world.agents)
    world.run(40_000.0, lambda: spend(world))
    assert sum(one.admitted for one in world.agents) == admitted
    assert world.running == 0, "running ones have ended by themselves"


@pytest.mark.parametrize("seed", range(9))
def test_agents_that_die_or_are_cut_off_exceed_a_cap_by_no_more_than_is_promised(
    seed: int,
) -> None:
    agents = (2, 5, 20)[seed % 3]
    world = QuotaWorld(agents, balance=1_500_000 * agents, seed=seed, repeat=0.1)
    failed: list[int] = []

    def every() -> None:
        spend(world)
        if world.random.random() < 0.001 and len(failed) < 4:
            victim = world.random.choice(world.agents)
            # What it has reserved or has spent without a record that was counted.
            failed.append(sum(nano for _, nano in victim.unsent) + BOUND * len(victim.running))
            if world.random.random() < 0.5:
                world.restart(victim)
            else:
                victim.cut = True
        promised = (
            sum(failed)
            + len(failed) * world.start_balance // MOST_PART_OF_MONEY
            + world.start_balance // CUT_OFF_PART_OF_MONEY
        )
        assert world.exposed <= world.start_balance + promised * bool(failed)

    world.run(120_000.0, every)
    assert failed


def test_a_coordinator_that_is_away_costs_no_overshoot_and_stops_nobody_at_once() -> None:
    world = QuotaWorld(5, balance=30_000_000, seed=3)
    world.run(20_000.0, lambda: spend(world, 0.02))
    before = world.spent
    world.shares = None
    world.run(50_000.0, lambda: spend(world, 0.02))
    assert world.spent > before, "leases and cut-off shares are used"
    world.run(200_000.0, lambda: spend(world, 0.05))
    assert world.exposed <= world.start_balance
    world.restart_coordinator()
    world.run(330_000.0, lambda: spend(world, 0.1))
    assert 0.98 * world.start_balance <= world.spent <= world.start_balance


def test_leases_of_an_agent_that_died_are_there_again_after_their_end() -> None:
    world = QuotaWorld(2, balance=1_000_000, limits=UsageLimits(10, 0, 0), seed=5)
    dead, other = world.agents
    for _ in range(10):
        world.ask(dead, bound=50_000, cost=0, takes_ms=60_000.0)
    world.run(2_000.0)
    assert dead.admitted == 10
    world.kill(dead)
    world.ask(other, bound=600_000, cost=0)
    world.run(3_000.0)
    assert other.admitted == 0
    assert other.refused == {"rate_limit_exceeded": 1}
    world.run(3_000.0 + LEASE_MS + LEASE_MARGIN_MS)
    for _ in range(10):
        world.ask(other, bound=90_000, cost=0)
    world.run(world.now_ms + 1_000.0)
    assert other.admitted == 10


@pytest.mark.parametrize("agents", [1, 2, 5, 20])
def test_requests_a_minute_are_one_bucket_over_all_agents(agents: int) -> None:
    limit = 600
    world = QuotaWorld(agents, limits=UsageLimits(0, limit, 0), seed=agents, repeat=0.1)

    def every() -> None:
        for agent in world.agents:
            if world.random.random() < 0.5:
                world.ask(agent)

    world.run(130_000.0, every)
    for window_s in (1, 10, 60, 120):
        most = world.most_in_a_minute(window_s * 1_000.0)
        assert most <= limit + limit * window_s / 60 + 1, window_s
    assert len(world.requests) >= 0.95 * (limit + limit * 130 / 60), "and nearly all is used"
    if agents > 1:
        least, most = (
            min(one.admitted for one in world.agents),
            max(one.admitted for one in world.agents),
        )
        assert most < 4 * least, "equal demand, similar shares"


@pytest.mark.parametrize("agents", [1, 2, 5, 20])
def test_sequences_at_once_are_never_more_over_all_agents(agents: int) -> None:
    world = QuotaWorld(agents, limits=UsageLimits(50, 0, 0), seed=agents, repeat=0.2)

    def every() -> None:
        for agent in world.agents:
            if world.random.random() < 0.4:
                world.ask(agent, takes_ms=world.random.uniform(500, 4_000))

    world.run(60_000.0, every)
    assert world.most_running <= 50
    assert all(one.admitted for one in world.agents)

    def every_with_restarts() -> None:
        every()
        if world.random.random() < 0.000_5:
            world.restart_coordinator()

    world.run(150_000.0, every_with_restarts)
    assert world.most_running <= 2 * 50


def test_an_account_with_limits_is_served_at_an_idle_agent_right_after_a_restart() -> None:
    """Nothing is refused that was served before, and no 429 comes of the crash alone."""
    world = QuotaWorld(4, limits=UsageLimits(40, 60, 0), seed=11)
    busy, idle = world.agents[:2]
    for _ in range(5):
        world.ask(busy, takes_ms=30_000.0)
    world.run(3_000.0)
    world.restart_coordinator(500.0)
    world.run(4_000.0)
    for _ in range(5):
        world.ask(idle, takes_ms=1_000.0)
    world.run(5_000.0)
    assert (busy.admitted, idle.admitted) == (5, 5)
    assert not idle.refused


def test_a_lone_busy_agent_gets_nearly_all_within_seconds_of_the_others_end() -> None:
    world = QuotaWorld(5, limits=UsageLimits(100, 0, 0), seed=2)
    lone = world.agents[0]

    def all_ask() -> None:
        for agent in world.agents:
            world.ask(agent, takes_ms=1_000.0)

    world.run(20_000.0, all_ask)
    world.run(26_000.0, lambda: world.ask(lone, takes_ms=1_000.0))
    assert len(lone.running) >= 45  # all that 50 requests a second of a second each can be


def test_without_the_coordinator_rates_are_at_most_twice_the_limit_in_all() -> None:
    limit = 600
    world = QuotaWorld(5, limits=UsageLimits(0, limit, 0), seed=4)

    def every() -> None:
        for agent in world.agents:
            if world.random.random() < 0.5:
                world.ask(agent)

    world.run(20_000.0, every)
    world.shares = None
    world.run(40_000.0, every)
    del world.requests[:]
    world.run(160_000.0, every)
    assert limit <= len(world.requests) <= 2 * 2 * limit + limit


def top_up(world: QuotaWorld) -> None:
    world.balance = 20 * 10**9


def account(**fields: object) -> Callable[[QuotaWorld], None]:
    """Return what writes the account's row."""

    def write(world: QuotaWorld) -> None:
        world.account = replace(world.account, **fields)  # type: ignore[arg-type]

    return write


SUSPENDED = account(state=AccountState.SUSPENDED)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("agents", [1, 20])
@pytest.mark.parametrize(
    ("balance", "limits", "before", "change", "tokens", "takes_ms"),
    [
        pytest.param(0, UsageLimits(), None, top_up, 10, 500.0, id="nothing left"),
        pytest.param(-5_000, UsageLimits(), None, top_up, 10, 500.0, id="overdrawn"),
        pytest.param(5_000, UsageLimits(), None, top_up, 10, 500.0, id="too little left"),
        pytest.param(0, UsageLimits(), None, account(funded=False), 10, 500.0, id="no bound"),
        pytest.param(
            10**9,
            UsageLimits(),
            SUSPENDED,
            account(state=AccountState.ACTIVE),
            10,
            500.0,
            id="paid",
        ),
        pytest.param(
            None,
            UsageLimits(0, 1, 0),
            None,
            account(limits=UsageLimits(0, 6_000, 0)),
            10,
            500.0,
            id="requests",
        ),
        pytest.param(
            None,
            UsageLimits(0, 1, 0),
            None,
            account(limits=UsageLimits()),
            10,
            500.0,
            id="unlimited",
        ),
        pytest.param(
            None,
            UsageLimits(0, 0, 20),
            None,
            account(limits=UsageLimits(0, 0, 60_000_000)),
            2_000,
            500.0,
            id="tokens",
        ),
        pytest.param(
            None,
            UsageLimits(1, 0, 0),
            None,
            account(limits=UsageLimits(100_000, 0, 0)),
            10,
            200_000.0,
            id="sequences",
        ),
    ],
)
def test_what_was_refused_is_admitted_within_five_seconds_of_a_raise_at_every_agent(
    seed: int,
    agents: int,
    balance: int | None,
    limits: UsageLimits,
    before: Callable[[QuotaWorld], None] | None,
    change: Callable[[QuotaWorld], None],
    tokens: int,
    takes_ms: float,
) -> None:
    world = QuotaWorld(agents, balance=balance, limits=limits, seed=seed)
    if before is not None:
        before(world)
    next_ms: dict[str, float] = {}

    def every() -> None:
        for agent in world.agents:
            if world.now_ms >= next_ms.get(agent.node_id, 0.0):
                next_ms[agent.node_id] = world.now_ms + 1_000.0
                world.ask(agent, bound=BOUND, cost=100, tokens=tokens, takes_ms=takes_ms)

    world.run(31_000.0, every)
    assert all(one.refused for one in world.agents)
    admitted = {one.node_id: one.admitted for one in world.agents}
    change(world)
    world.run(34_500.0, every)  # known within two seconds, and asked once a second
    assert all(one.admitted > admitted[one.node_id] for one in world.agents)


def test_a_first_request_long_after_a_refusal_is_admitted_after_a_top_up() -> None:
    world = QuotaWorld(1, balance=0)
    (agent,) = world.agents
    world.ask(agent, bound=BOUND)
    world.run(60_000.0)
    assert agent.refused == {"insufficient_quota": 1}
    top_up(world)
    world.ask(agent, bound=BOUND)
    world.run(62_000.0)
    assert agent.admitted == 1


def test_refusals_for_want_of_money_ask_the_coordinator_once_a_second_at_most() -> None:
    world = QuotaWorld(1, balance=0)
    (agent,) = world.agents
    calls: set[int] = set()

    def every() -> None:
        world.ask(agent, bound=BOUND)
        if agent.calling is not None:
            calls.add(agent.calling.seq)

    world.run(5_000.0, every)
    before = len(calls)
    world.run(65_000.0, every)
    assert 50 <= len(calls) - before <= 62
