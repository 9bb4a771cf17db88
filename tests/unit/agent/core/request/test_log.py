"""The log of a request, and its trace, which is bounded and includes the chosen candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent.core.request.attempt import TokenTimes
from agent.core.request.log import AttemptLog, RequestLog
from protos.domain.errors import BudgetUnreachable, EngineFailed, NoReplica, NotFound
from protos.domain.resources import Tier
from protos.domain.router import place
from protos.domain.trace import (
    MAX_ATTEMPTS,
    MAX_CANDIDATES,
    MAX_TEXT_CHARS,
    AttemptOutcome,
    AttemptPurpose,
    Trace,
    token_times_ms,
)
from tests.support import fleets

if TYPE_CHECKING:
    from protos.domain.choice import Placement
    from protos.domain.errors import EdgeForgeError


def log(**fields: Any) -> RequestLog:
    """A log of a request whose first byte came at 1,000 ms."""
    made = RequestLog("0" * 32, 1_700_000_000_000, "/v1/chat/completions", 1_000.0, 1_000.5)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def trace_of(made: RequestLog) -> Trace:
    return made.finish(("gru-1", "GRU")).trace()


def attempt(detail: str = "", outcome: AttemptOutcome = AttemptOutcome.ANSWERED) -> AttemptLog:
    return AttemptLog("n-0", outcome, AttemptPurpose.SERVE, detail, 5.0, 1_002.0, 140.0)


def placement(targets: int, *, slowest_wins: bool = False) -> Placement:
    """A placement among ``targets`` nodes, each slower than the one before."""
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
    return placed(fleets.view(*resources), budget_left_ms=10_000.0)


def placed(view: Any, **shape: Any) -> Placement:
    return place(
        view,
        fleets.request(**shape),
        "n-0",
        fleets.lookup({}, fleets.target(1.0)),
        draw=0.0,
        fill=lambda _node: 0.0,
        edge_fill_ratio=0.0,
    )


def test_times_are_relative_to_the_first_byte() -> None:
    tokens = TokenTimes(None)
    tokens.count(1, 1_050.0)
    tokens.count(2, 1_060.0)
    made = trace_of(
        log(
            authed_mono_ms=1_001.0,
            placed_mono_ms=1_002.0,
            asked_mono_ms=1_003.0,
            first_token_mono_ms=1_050.0,
            last_mile_ms=12.0,
            took_ms=80.0,
            tokens=tokens,
        )
    )
    assert (made.read_ms, made.authed_ms, made.placed_ms, made.asked_ms) == (0.5, 1.0, 2.0, 3.0)
    assert (made.first_token_ms, made.ended_ms, made.last_mile_ms) == (50.0, 80.0, 12.0)
    assert token_times_ms(made.token_gaps_us) == (50.0, 60.0, 60.0)


def test_a_request_that_was_not_admitted_has_no_times_after_its_reading() -> None:
    made = trace_of(log())
    assert (made.authed_ms, made.placed_ms, made.asked_ms, made.first_token_ms) == (None,) * 4
    assert (made.token_gaps_us, made.tokens_left_out, made.attempts) == ((), 0, ())


def test_candidates_and_token_times_leave_the_log_with_the_trace() -> None:
    one = log(tokens=TokenTimes(None))
    one.attempts.append(attempt())
    one.placements.append(placement(2))
    finished = one.finish(("gru-1", "GRU"))
    assert (one.placements, one.tokens) == ([], None)
    assert len(finished.trace().attempts[0].candidates) == 2
    assert one.as_json()["attempts"] == [attempt().as_json()]


@pytest.mark.parametrize("slowest_wins", [False, True])
def test_candidates_in_a_trace_are_bounded_and_include_the_chosen_one(slowest_wins: bool) -> None:
    one, chosen_from = log(), placement(MAX_CANDIDATES + 10, slowest_wins=slowest_wins)
    one.attempts.append(attempt("x" * 9_999, AttemptOutcome.FAILED))
    one.placements.append(chosen_from)
    (made,) = trace_of(one).attempts
    assert len(made.candidates) == MAX_CANDIDATES
    assert made.candidates_left_out == 10
    (chosen,) = [each for each in made.candidates if each.chosen]
    assert chosen.node_id == chosen_from.chosen.node.id
    assert sum(term.value_ms for term in chosen.terms) == pytest.approx(chosen.ttft_ms_p99)
    assert len(made.detail) == MAX_TEXT_CHARS
    assert (made.began_ms, made.outcome) == (2.0, AttemptOutcome.FAILED)


def test_attempts_in_a_trace_are_bounded() -> None:
    one, chosen_from = log(), placement(1)
    one.attempts += [attempt()] * (MAX_ATTEMPTS + 1)
    one.placements += [chosen_from] * (MAX_ATTEMPTS + 1)
    assert len(trace_of(one).attempts) == MAX_ATTEMPTS


def test_a_target_without_a_price_has_none_in_the_trace() -> None:
    view = fleets.view(
        fleets.model(), fleets.pop("P0"), fleets.node("n-0", "P0"), fleets.replica("n-0")
    )
    one = log()
    one.attempts.append(attempt())
    one.placements.append(placed(view))
    (candidate,) = trace_of(one).attempts[0].candidates
    assert candidate.price_nano_usd_per_1k_tokens == 0


@pytest.mark.parametrize(
    ("error", "status", "shed"),
    [
        (BudgetUnreachable("late"), 429, "budget_unreachable"),
        (NoReplica("none"), 503, "no_replica"),
        (EngineFailed("broken"), 502, ""),
        (NotFound("no deployment"), 404, ""),
    ],
)
def test_only_a_valid_request_that_is_refused_is_shed(
    error: EdgeForgeError, status: int, shed: str
) -> None:
    one = log()
    one.refused(error)
    assert (one.status, one.error, one.shed) == (status, error.message, shed)


def test_the_users_first_token_time_includes_the_last_mile() -> None:
    one = log(first_token_mono_ms=1_090.0, last_mile_ms=20.0)
    assert (one.ttft_ms, one.felt_ttft_ms) == (90.0, 110.0)
    assert (log().ttft_ms, log().felt_ttft_ms) == (None, None)


@pytest.mark.parametrize(
    ("fields", "matters"),
    [
        ({"status": 200}, False),
        ({"status": 401, "error": "no credential"}, False),
        ({"status": 429}, True),
        ({"status": 502}, True),
        ({"status": 200, "error": "the engine failed during the stream"}, True),
        ({"status": 200, "client_gone": True}, True),
        ({"first_token_mono_ms": 1_100.0, "budget_ms": 100.0}, False),
        ({"first_token_mono_ms": 1_100.0, "budget_ms": 100.0, "last_mile_ms": 1.0}, True),
    ],
)
def test_traces_of_failures_and_late_first_tokens_are_kept_and_of_client_errors_not(
    fields: dict[str, Any], matters: bool
) -> None:
    assert log(**fields).matters is matters
