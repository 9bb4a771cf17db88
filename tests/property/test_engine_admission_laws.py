"""Laws of the admission to an engine, over any order of arrivals, endings and departures."""

from __future__ import annotations

import heapq
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.engine_admission import RESERVE_RATIO, EngineAdmission, Entered, Left, Serve
from agent.core.engine_place import WEIGHTS, Place, Work
from agent.core.fair_queue import MAX_LINES
from protos.domain.resources import SlaTier

ACCOUNTS = "abcd"
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("enter", "enter", "leave", "go")),
        st.sampled_from(ACCOUNTS),
        st.sampled_from(list(SlaTier)),
        st.integers(1, 3),
        st.integers(0, 200),
    ),
    max_size=120,
)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 6), STEPS)
def test_nobody_waits_while_a_place_is_free_and_all_counts_are_right(
    places: int, steps: list[tuple[str, str, SlaTier, int, int]]
) -> None:
    admission = EngineAdmission(places, max_waiting=12, max_waiting_bytes=2_000)
    inside: list[Place] = []
    served: set[Place] = set()
    for now, (what, account, tier, sequences, number) in enumerate(steps):
        if what == "enter" or not inside:
            place = Place(Work(account, tier, sequences, 10.0, body_bytes=number), float(now))
            inside.append(place)
            event: Entered | Left = Entered(place)
        else:
            waiting = [one for one in inside if one.waits]
            chosen = waiting if what == "go" and waiting else inside
            gone = chosen[number % len(chosen)]
            inside.remove(gone)
            event = Left(gone, 50.0)
        for command in admission.handle(event, float(now)):
            assert command.place in inside, "a request that left is not decided any more"
            assert command.place not in served, "each is decided once"
            served.add(command.place)
            assert isinstance(command, Serve) is (command.place.served_mono_ms is not None)
        at_engine = [one for one in inside if one.served_mono_ms is not None]
        waiting = [one for one in inside if one.waits]
        assert admission.serving == sum(one.work.sequences for one in at_engine)
        assert admission.waiting == sum(one.work.sequences for one in waiting)
        assert admission.waiting_requests == len(waiting) <= 12
        assert sum(one.work.body_bytes for one in waiting) <= 2_000
        assert not waiting or admission.serving >= places
        reserve = math.ceil(RESERVE_RATIO * places)
        assert admission.serving < places + reserve + 3, "wider by less than one request"
    for place in inside:
        admission.handle(Left(place), 1_000.0)
    assert (admission.serving, admission.waiting, admission.accounts) == (0, 0, 0)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(4, 16),
    st.lists(st.sampled_from(list(SlaTier)), min_size=2, max_size=4),
    st.lists(st.floats(0.2, 5.0), min_size=7, max_size=7),
)
def test_a_backlogged_account_is_served_in_proportion_to_its_weight_after_the_first_second(
    places: int, tiers: list[SlaTier], lengths_s: list[float]
) -> None:
    """Every account always has requests waiting; the first had the engine to itself."""
    admission = EngineAdmission(places)
    running: list[tuple[float, int, Place]] = []
    order = 0

    def enter(index: int, now_ms: float) -> None:
        place = Place(Work(f"account-{index}", tiers[index], max_tokens=100.0), now_ms)
        decide(admission.handle(Entered(place), now_ms), now_ms)

    def decide(commands: list, now_ms: float) -> None:
        nonlocal order
        for command in commands:
            order += 1
            length_ms = 1_000.0 * lengths_s[order % len(lengths_s)]
            heapq.heappush(running, (now_ms + length_ms, order, command.place))

    for _ in range(200):
        enter(0, 0.0)
    for index in range(1, len(tiers)):
        for _ in range(100):
            enter(index, 100.0)
    held = dict.fromkeys((f"account-{index}" for index in range(len(tiers))), 0.0)
    now_ms = 100.0
    while now_ms < 60_000.0:
        ends_ms, _, place = heapq.heappop(running)
        if now_ms >= 1_000.0:
            for _, _, one in [*running, (ends_ms, 0, place)]:
                held[one.work.account] += ends_ms - now_ms
        now_ms = ends_ms
        decide(admission.handle(Left(place, 100.0), now_ms), now_ms)
        enter(int(place.work.account[-1]), now_ms)
    weights = {f"account-{index}": WEIGHTS[tier] for index, tier in enumerate(tiers)}
    total = sum(held.values())
    for account, weight in weights.items():
        share = places * weight / sum(weights.values())
        assert held[account] / total >= 0.6 * math.floor(share) / places


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 16), st.integers(1, 60))
def test_an_account_alone_uses_every_place(places: int, requests: int) -> None:
    admission = EngineAdmission(places)
    inside = [Place(Work("a"), 0.0) for _ in range(requests)]
    for place in inside:
        admission.handle(Entered(place), 0.0)
    for left, place in enumerate(inside):
        assert admission.serving == min(places, requests - left)
        admission.handle(Left(place), 1.0)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 8), st.integers(1, 500))
def test_an_account_without_a_place_gets_one_at_once_while_the_reserve_lasts(
    places: int, waiting: int
) -> None:
    admission = EngineAdmission(places)
    for _ in range(places + waiting):
        admission.handle(Entered(Place(Work("a"), 0.0)), 0.0)
    for number in range(math.ceil(RESERVE_RATIO * places)):
        newcomer = Place(Work(f"b{number}"), 1.0)
        assert admission.handle(Entered(newcomer), 1.0) == [Serve(newcomer)]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4))
def test_memory_is_bounded_however_many_accounts_come_and_go(places: int) -> None:
    admission = EngineAdmission(places, max_waiting=8)
    for _ in range(places + 2):
        admission.handle(Entered(Place(Work("a"), 0.0)), 0.0)
    for number in range(MAX_LINES + 50):
        place = Place(Work(f"b{number}"), 1.0)
        admission.handle(Entered(place), 1.0)
        admission.handle(Left(place, 10_000.0), 1.0)
    assert admission.accounts <= MAX_LINES + 1
    assert len(admission._queue._heap) <= MAX_LINES + 1
