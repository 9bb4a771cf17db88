"""What a request's marks become: bounded, the chosen candidate always among them."""

from __future__ import annotations

import pytest

from agent.gateway.records import Attempt, RequestRecord
from agent.gateway.trail import Finished, TokenTimes, Trail
from agent.relay.messages import Request
from protos.domain.choice import Placement
from protos.domain.resources import Tier
from protos.domain.router import place
from protos.domain.trace import MAX_CANDIDATES, MAX_TEXT_CHARS, MAX_TOKEN_TIMES, token_times_ms
from tests.support import fleets


def a_trail() -> Trail:
    request = Request("POST", b"/v1/chat/completions", {}, b"prompt", True, 1_000.0, 12.0)
    return Trail(request, 1_000.5, 0)


def a_record(**fields: object) -> RequestRecord:
    return RequestRecord("0" * 32, 1_700_000_000_000, "/v1/chat/completions", **fields)  # type: ignore[arg-type]


def placement(targets: int, *, slowest_wins: bool = False) -> Placement:
    """Among so many targets, the later the slower; a price of its own for the last."""
    resources = [fleets.model(), fleets.deployment()]
    resources += [fleets.price(Tier.CENTRAL, 1), fleets.price(Tier.EDGE, 9)]
    for number in range(targets):
        last = number == targets - 1
        tier = Tier.CENTRAL if last and slowest_wins else Tier.EDGE
        resources += [
            fleets.pop(f"P{number}", tier),
            fleets.node(f"n-{number}", f"P{number}"),
            fleets.replica(f"n-{number}", 10.0 + number),
        ]
    found = fleets.lookup({}, fleets.target(1.0))
    shape = fleets.request(budget_left_ms=10_000.0)
    return place(
        fleets.view(*resources),
        shape,
        "n-0",
        found,
        draw=0.0,
        fill=lambda _node: 0.0,
        edge_fill_ratio=0.0,
    )


def finished(trail: Trail, **fields: object) -> Finished:
    return Finished(a_record(**fields), trail, ("gru-1", "GRU"))


def test_marks_become_moments_since_the_first_byte() -> None:
    trail = a_trail()
    trail.authed_mono_ms, trail.placed_mono_ms = 1_001.0, 1_002.0
    trail.asked_mono_ms, trail.first_token_mono_ms = 1_002.0, 1_050.0
    trail.tokens = TokenTimes(None)
    trail.tokens.count(1, 1_050.0)
    trail.tokens.count(2, 1_060.0)
    made = finished(trail, took_ms=80.0).trace()
    assert (made.read_ms, made.authed_ms, made.first_token_ms) == (0.5, 1.0, 50.0)
    assert made.last_mile_ms == 12.0
    assert token_times_ms(made.token_gaps_us) == (50.0, 60.0, 60.0)


def test_the_prompt_is_let_go_before_anything_is_kept() -> None:
    trail = a_trail()
    finished(trail)
    assert not hasattr(trail, "request")


def test_more_tokens_than_are_kept_are_counted_and_still_told_on() -> None:
    told: list[int] = []
    tokens = TokenTimes(lambda count, _now: told.append(count))
    tokens.count(MAX_TOKEN_TIMES - 1, 1.0)
    tokens.count(3, 2.0)
    tokens.count(1, 3.0)
    tokens.count(0, 4.0)
    assert (len(tokens.times_mono_ms), tokens.left_out) == (MAX_TOKEN_TIMES, 3)
    assert told == [MAX_TOKEN_TIMES - 1, 3, 1, 0]


@pytest.mark.parametrize("slowest_wins", [False, True])
def test_a_crowd_of_candidates_is_cut_but_never_by_the_chosen_one(slowest_wins: bool) -> None:
    trail = a_trail()
    placed = placement(MAX_CANDIDATES + 10, slowest_wins=slowest_wins)
    trail.note(Attempt("n-0", "x" * 9_999, 5.0), placed, 140.0, 1_002.0)
    (attempt,) = finished(trail).trace().attempts
    assert len(attempt.candidates) == MAX_CANDIDATES
    assert attempt.candidates_left_out == 10
    (chosen,) = [one for one in attempt.candidates if one.chosen]
    assert chosen.node_id == placed.chosen.node.id
    assert sum(term.value_ms for term in chosen.terms) == pytest.approx(chosen.ttft_ms_p99)
    assert len(attempt.outcome) == MAX_TEXT_CHARS


def test_a_target_without_a_price_has_none_on_record() -> None:
    view = fleets.view(
        fleets.model(), fleets.pop("P0"), fleets.node("n-0", "P0"), fleets.replica("n-0")
    )
    placed = place(
        view,
        fleets.request(),
        "n-0",
        fleets.lookup({}, fleets.target()),
        draw=0.0,
        fill=lambda _node: 0.0,
    )
    trail = a_trail()
    trail.note(Attempt("n-0", "answered", 5.0), placed, 140.0, 1_002.0)
    (candidate,) = finished(trail).trace().attempts[0].candidates
    assert candidate.price_nano_usd_per_1k_tokens == 0
