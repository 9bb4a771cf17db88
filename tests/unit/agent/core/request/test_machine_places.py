"""A request at this node's own engine is held until its account's turn, or refused with a time."""

from __future__ import annotations

from typing import Any

from agent.core.engine_admission import Newcomer
from agent.core.engine_place import Place, Work
from agent.core.peer_load import PeerLoad
from agent.core.request import messages as m
from protos.domain.pricing import Usage
from protos.domain.resources import SlaTier
from protos.domain.trace import AttemptOutcome
from tests.support.fleets import MODEL, deployment
from tests.support.request_world import RequestWorld, fleet


def crowded_world(account: str, waiting: int, **options: Any) -> tuple[RequestWorld, list[Place]]:
    """Return a world whose own engine of four places is full of ``account``, and those places."""
    world = RequestWorld(fleet({"near": 20.0}), **options)
    door = world.state.engine_door
    return world, [door.enter(Work(account), world.now) for _ in range(4 + waiting)]


def test_a_request_is_held_until_a_place_frees_and_is_sent_then() -> None:
    world, places = crowded_world("acme", 0)
    assert world.begin() == ["hold near"]
    assert world.state.live.backlog("near", world.now)[0] == 0.0, "it is not before the engine yet"
    told: list[float] = []
    place = world.attempts["near"].place
    assert place is not None
    place.on_decided = lambda _place, now_mono_ms: told.append(now_mono_ms)
    world.state.engine_door.leave(places[0], world.now + 30.0)
    assert told == [world.now + 30.0]
    assert world.decided("near", 30.0) == ["ask near"]
    assert world.state.live.backlog("near", world.now)[0] > 0.0
    assert world.token("near", 20.0) == ["head near"]
    assert world.stream_ends("near") == ["account", "end near"]
    assert place.queue_ms(world.now) == 30.0


def test_a_client_that_leaves_while_its_request_is_held_leaves_the_line() -> None:
    world, places = crowded_world("acme", 0)
    world.begin()
    assert world.state.engine_door.waiting == 1
    assert world.gone() == ["cancel near", "account"]
    assert world.state.engine_door.waiting == 0
    world.state.engine_door.leave(places[0], world.now)
    assert world.state.engine_door.serving == 3


def test_a_place_that_comes_for_an_attempt_that_was_cut_meanwhile_asks_nobody() -> None:
    world, _ = crowded_world("acme", 0)
    world.begin()
    attempt = world.attempts["near"]
    world.machine._running.cut(attempt, AttemptOutcome.LATE, world.now)
    assert world.decided("near") == []


def test_1500_waiting_streams_do_not_make_another_accounts_strict_deployment_answer_429() -> None:
    strict = deployment(ttft_budget_ms=500, strict=True)
    world, _ = crowded_world("greedy", 1_500, of=strict, max_waiting=2_000)
    assert world.begin() == ["ask near"], "it is predicted behind nobody, and gets a place at once"


def test_an_accounts_own_waiting_streams_make_its_strict_deployment_answer_429() -> None:
    strict = deployment(ttft_budget_ms=500, strict=True)
    world, _ = crowded_world("acme", 1_500, of=strict, max_waiting=2_000)
    assert world.begin() == ["error 429 BudgetUnreachable"]


def test_over_the_limit_only_the_account_with_the_most_waiting_gets_429_with_a_time_to_retry() -> (
    None
):
    world, _ = crowded_world("acme", 3, max_waiting=3)
    assert world.begin() == ["error 429 Overloaded"]
    assert world.log.shed == "overloaded"
    assert world.begin("other") == ["ask near"]


def test_a_held_request_that_is_pushed_out_gets_429() -> None:
    world, _ = crowded_world("greedy", 0, max_waiting=3)
    assert world.begin("greedy") == ["hold near"]
    place = world.attempts["near"].place
    assert place is not None
    place.retry_after_s = 7.0  # as the admission decides when others need the room
    assert world.decided("near") == ["error 429 Overloaded"]


def test_a_peer_where_the_account_has_too_much_waiting_is_no_failed_peer() -> None:
    world = RequestWorld(fleet({"far": 20.0, "further": 30.0}), node_id="near")
    for name, after in (("far", ["ask further"]), ("further", ["error 429 Overloaded"])):
        if name == "far":
            assert world.begin() == ["ask far"]
        ended = m.AttemptEnded(world.attempts[name], m.Ending.WHOLE, 503)
        ended.load = PeerLoad(4, 90, None, retry_after_s=12.0)
        assert world._do(ended) == after
        assert not world.state.live.is_ejected(name, world.now)
        assert world.state.live._of(name).failures == 0


def test_a_request_counts_as_its_sequences_at_own_engine_and_peer() -> None:
    for name in ("near", "far"):
        world = RequestWorld(fleet({name: 20.0}))
        world.begin(sequences=8)
        assert world.state.live.in_flight(name) == 8
        assert world.state.engine_door.serving == (8 if name == "near" else 0)
        world.gone()
        assert (world.state.engine_door.serving, world.state.live.in_flight(name)) == (0, 0)


def test_an_answer_that_is_no_stream_is_charged_by_its_engines_count() -> None:
    """Its tokens cannot be seen coming; the mean of others' answers was all that it was charged."""
    world, _ = crowded_world("other", -3, stream=False)
    assert world.begin() == ["ask near"]
    ended = m.AttemptEnded(world.attempts["near"], m.Ending.WHOLE, 200)
    ended.usage = Usage(10, 0, 8_000)
    world._do(ended)
    assert world.machine._books._generated(world.attempts["near"]) == 8_000


def test_what_waits_at_a_peer_is_ahead_of_its_own_account_only() -> None:
    world = RequestWorld(fleet({"far": 20.0}), node_id="near")
    live = world.state.live
    for _ in range(100):
        live.request_started("far", world.now, 50.0, "greedy")
    newcomer = Newcomer(3, 0, 2)
    live.reported("far", world.now, in_flight=4, queued=96, newcomer=newcomer)

    def meets(account: str) -> tuple[int, int, float]:
        look_up = world.state.targets(MODEL, world.now, account=account, sla_tier=SlaTier.STANDARD)
        return look_up("far").in_flight, look_up("far").queued, look_up("far").backlog_tokens

    greedy, other = meets("greedy"), meets("other")
    assert greedy[1] >= 96
    assert greedy[2] == 5_000.0
    assert other[:2] == (3, 0)
    assert other[2] <= 201.0, "of the others' prompts only those before the engine are ahead"
