"""Parts that sum to the whole, tokens' times, and what counts as missed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.domain.trace import (
    PARTS,
    FarTimes,
    Part,
    Trace,
    part_ms,
    token_gaps,
    token_pace,
    token_times_ms,
    waterfall,
)

TRACE = Trace(
    trace_id="0" * 32,
    ingress_node_id="gru-1",
    ingress_pop_id="GRU",
    began_unix_ms=1_700_000_000_000,
    path="/v1/chat/completions",
    stream=True,
    status=200,
    budget_ms=250.0,
    last_mile_ms=20.0,
    read_ms=1.0,
    authed_ms=2.0,
    placed_ms=4.0,
    asked_ms=4.0,
    first_token_ms=150.0,
    ended_ms=400.0,
    far=FarTimes(admission_ms=1.0, queue_ms=5.0, engine_ms=45.0),
)

LOADED = replace(TRACE, far=FarTimes(1.0, 5.0, 45.0, 60.0))

moments = st.floats(min_value=0.0, max_value=1e7, allow_nan=False)
far_times = st.none() | st.builds(FarTimes, moments, moments, moments, st.just(0.0) | moments)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Traces that end at any step."""
    read, authed, placed, asked, token, ended = sorted(draw(st.tuples(*[moments] * 6)))
    far = draw(st.integers(min_value=0, max_value=4))
    return replace(
        TRACE,
        read_ms=read,
        authed_ms=authed if far > 0 else None,
        placed_ms=placed if far > 1 else None,
        asked_ms=asked if far > 2 else None,
        first_token_ms=token if far > 3 else None,
        ended_ms=ended,
        far=draw(far_times),
    )


def test_a_stream_over_a_hop_shows_where_its_first_token_was_paid() -> None:
    assert [(part.name, part.took_ms) for part in waterfall(TRACE)] == [
        ("receive", 1.0),
        ("auth", 1.0),
        ("route", 2.0),
        ("network", 100.0),
        ("admission", 1.0),
        ("queue", 5.0),
        ("prefill", 40.0),
        ("decode", 250.0),
    ]


def test_the_wait_for_a_load_is_a_part_of_its_own() -> None:
    parts = {part.name: part.took_ms for part in waterfall(LOADED)}
    assert (parts["network"], parts["admission"], parts["load"]) == (40.0, 1.0, 60.0)
    assert sum(parts.values()) == 400.0
    assert list(parts).index("load") == list(parts).index("queue") - 1


def test_a_replaced_attempt_is_a_part_of_its_own() -> None:
    assert part_ms(waterfall(replace(TRACE, asked_ms=60.0)), "failed") == 56.0


def test_an_answer_without_a_stream_is_one_part() -> None:
    parts = waterfall(replace(TRACE, stream=False, first_token_ms=None, ended_ms=150.0))
    assert [part.name for part in parts][-2:] == ["queue", "answer"]
    assert part_ms(parts, "prefill") == 0.0


def test_a_refused_request_has_the_parts_it_reached() -> None:
    trace = replace(TRACE, placed_ms=None, asked_ms=None, first_token_ms=None, ended_ms=2.0)
    assert waterfall(trace) == (Part("receive", 0.0, 1.0), Part("auth", 1.0, 1.0))


def test_time_spent_on_targets_that_all_failed_is_shown() -> None:
    trace = replace(TRACE, asked_ms=None, first_token_ms=None, ended_ms=90.0)
    assert part_ms(waterfall(trace), "failed") == 86.0


def test_far_times_longer_than_what_was_measured_leave_no_network() -> None:
    parts = waterfall(replace(TRACE, far=FarTimes(500.0, 0.0, 500.0)))
    assert part_ms(parts, "network") == 0.0
    assert part_ms(parts, "prefill") == 146.0


@given(traces())
def test_parts_are_in_order_without_a_gap_and_sum_to_the_first_token(trace: Trace) -> None:
    parts = waterfall(trace)
    assert [PARTS.index(part.name) for part in parts] == sorted(
        PARTS.index(part.name) for part in parts
    )
    at_ms = 0.0
    for part in parts:
        assert part.took_ms >= 0.0
        assert part.began_ms == pytest.approx(at_ms, abs=1e-6)
        at_ms = part.began_ms + part.took_ms
    if trace.first_token_ms is not None:
        to_first = sum(part.took_ms for part in parts if part.name != "decode")
        assert to_first == pytest.approx(trace.first_token_ms, abs=1e-3)
        assert at_ms == pytest.approx(trace.ended_ms, abs=1e-3)


@given(st.lists(moments, max_size=50).map(sorted))
def test_gaps_restore_the_times_to_the_microsecond(times_ms: list[float]) -> None:
    back = token_times_ms(token_gaps(times_ms))
    assert back == pytest.approx(times_ms, abs=0.001)


def test_pace_is_of_the_gaps_after_the_first_token() -> None:
    gaps_us = (150_000, *([10_000] * 98), 500_000)
    pace = token_pace(replace(TRACE, token_gaps_us=gaps_us, tokens_left_out=3))
    assert (pace.tokens, pace.tpot_ms_p50, pace.tpot_ms_p99) == (103, 10.0, 500.0)
    assert token_pace(replace(TRACE, token_gaps_us=(1,))).tpot_ms_p99 == 0.0


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, False),
        ({"budget_ms": 169.0}, True),
        ({"predicted_miss": True}, True),
        ({"first_token_ms": None, "status": 503}, True),
        ({"first_token_ms": None, "status": 0, "client_gone": True}, False),
        ({"first_token_ms": None, "stream": False}, False),
    ],
)
def test_missed_counts_what_the_user_felt(changes: dict[str, object], missed: bool) -> None:
    assert replace(TRACE, **changes).missed is missed  # type: ignore[arg-type]
