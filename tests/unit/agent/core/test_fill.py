"""How full an engine is."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.fill import MAX_FILL, RATE_WINDOW_MS, FillMeter, filling_tokens, parse_fill_ratio
from protos.domain.pricing import Usage


def test_an_engine_that_never_generated_is_empty() -> None:
    assert FillMeter(100.0).fill_ratio(0.0) == 0.0


def test_a_steady_rate_is_measured_within_minutes() -> None:
    meter = FillMeter(100.0)
    for second in range(600):
        meter.count(40, second * 1_000.0)
    assert meter.tokens_per_s(600_000.0) == pytest.approx(40.0, rel=0.03)
    assert meter.fill_ratio(600_000.0) == pytest.approx(0.4, rel=0.03)


def test_after_a_minute_of_silence_a_third_is_left() -> None:
    meter = FillMeter(100.0)
    meter.count(1_000, 0.0)
    before = meter.tokens_per_s(0.0)
    assert meter.tokens_per_s(RATE_WINDOW_MS) == pytest.approx(before / math.e)


def test_an_engine_that_exceeds_its_capacity_raises_it() -> None:
    meter = FillMeter(10.0)
    for second in range(600):
        meter.count(40, second * 1_000.0)
    assert meter.fill_ratio(599_000.0) == pytest.approx(1.0, rel=0.05)
    for second in range(600, 1_200):
        meter.count(20, second * 1_000.0)
    assert meter.fill_ratio(1_199_000.0) == pytest.approx(0.5, rel=0.05)


@given(st.lists(st.tuples(st.floats(0, 10_000), st.integers(0, 1_000)), max_size=50))
def test_fill_is_never_negative_nor_above_full_right_after_counting(
    steps: list[tuple[float, int]],
) -> None:
    meter, now_mono_ms = FillMeter(28.0), 0.0
    for pause_ms, tokens in steps:
        now_mono_ms += pause_ms
        meter.count(tokens, now_mono_ms)
        assert 0.0 <= meter.fill_ratio(now_mono_ms) <= 1.0


def test_no_token_is_lost_if_time_does_not_advance() -> None:
    meter = FillMeter(100.0)
    meter.count(60, 1_000.0)
    assert meter.tokens_per_s(500.0) == meter.tokens_per_s(1_000.0) == 1.0


@pytest.mark.parametrize("said", [None, "x", b"x", float("nan"), -1, "-0.1", [], "nan"])
def test_an_invalid_fill_is_none(said: object) -> None:
    assert parse_fill_ratio(said) is None


@pytest.mark.parametrize(
    ("said", "fill"), [("0.5", 0.5), (b"0.25", 0.25), (1, 1.0), (1e9, MAX_FILL)]
)
def test_a_reported_fill_is_limited(said: object, fill: float) -> None:
    assert parse_fill_ratio(said) == fill


def test_completion_tokens_fill_an_engine_and_prompt_tokens_an_embedding_one() -> None:
    assert filling_tokens(Usage(30, 10, 5), embeds=False) == 5
    assert filling_tokens(Usage(30, 10, 0), embeds=True) == 30


def test_the_latest_token_is_remembered_as_progress_and_a_read_without_one_is_not() -> None:
    meter = FillMeter(10.0)
    assert meter.counted_mono_ms == -math.inf
    meter.count(1, 1_000.0)
    meter.fill_ratio(1_004.0)
    meter.count(1, 1_005.0)
    assert meter.counted_mono_ms == 1_005.0, "whoever looks at the rate meanwhile"
    meter.count(0, 2_000.0)
    assert meter.counted_mono_ms == 1_005.0
