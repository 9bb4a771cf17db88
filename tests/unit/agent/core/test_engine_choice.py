"""Which engine takes a model: the cheapest path, and no thrashing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.cold_start import ColdPath
from agent.core.engine_choice import Choice, ChoicePolicy, EngineView, choose

POLICY = ChoicePolicy(min_residence_ms=1_000.0, hot_idle_ms=10_000.0)
KEY = b"k" * 32
ENGINE = EngineView(0, "acme/a@1", KEY, False, True, 0, 0.0, 0.0)
NOW_MS = 60_000.0


def chosen(
    *engines: EngineView, key: bytes = KEY, most: int = 1, runtime: str = ""
) -> Choice | None:
    return choose(
        engines,
        swap_key=key,
        runtime=runtime,
        max_engines=most,
        policy=POLICY,
        now_mono_ms=NOW_MS,
    )


def test_an_engine_of_the_same_shape_is_swapped():
    assert chosen(ENGINE, most=2) == Choice(ColdPath.SWAP, 0)


@pytest.mark.parametrize("key", [b"", b"o" * 32])
def test_another_shape_is_started_where_there_is_room(key):
    assert chosen(ENGINE, key=key, most=2) == Choice(ColdPath.ENGINE, 1)


def test_another_runtime_is_no_swap():
    assert chosen(ENGINE, runtime="acme/fast@1") == Choice(ColdPath.ENGINE, 0)


def test_without_room_an_idle_engine_is_replaced():
    assert chosen(ENGINE, key=b"") == Choice(ColdPath.ENGINE, 0)


def test_an_engine_with_requests_is_drained_for_a_swap_but_never_ended():
    busy = replace(ENGINE, in_flight=3)
    assert chosen(busy) == Choice(ColdPath.SWAP, 0)
    assert chosen(busy, key=b"") is None


def test_a_model_stays_for_its_least_residence():
    fresh = replace(ENGINE, resident_since_ms=NOW_MS - 999)
    assert chosen(fresh) == Choice(ColdPath.SWAP, 0, wait_ms=1.0)
    assert chosen(fresh, key=b"") == Choice(ColdPath.ENGINE, 0, wait_ms=1.0)
    assert chosen(replace(ENGINE, resident_since_ms=NOW_MS - 1_000)) == Choice(ColdPath.SWAP, 0)


def test_what_can_begin_now_comes_before_what_has_to_wait():
    fresh = replace(ENGINE, resident_since_ms=NOW_MS)
    assert chosen(fresh, most=2) == Choice(ColdPath.ENGINE, 1)
    other = replace(ENGINE, index=1, resident_since_ms=NOW_MS - 400)
    assert chosen(fresh, other, most=2) == Choice(ColdPath.SWAP, 1, wait_ms=600.0)


def test_a_wait_that_has_no_end_or_is_too_long_is_none():
    hot = replace(ENGINE, hot=True, last_used_ms=NOW_MS)
    assert chosen(replace(hot, in_flight=1)) is None
    assert chosen(hot) == Choice(ColdPath.SWAP, 0, wait_ms=10_000.0)
    assert chosen(replace(ENGINE, resident_since_ms=NOW_MS + 1e6)) is None


def test_a_hot_model_keeps_its_engine_unless_it_is_idle():
    hot = replace(ENGINE, hot=True, last_used_ms=NOW_MS - 9_999)
    assert chosen(hot) == Choice(ColdPath.SWAP, 0, wait_ms=1.0)
    assert chosen(replace(hot, last_used_ms=NOW_MS - 10_000)) == Choice(ColdPath.SWAP, 0)
    assert chosen(replace(hot, last_used_ms=0.0, in_flight=1)) is None


def test_an_engine_that_starts_is_not_swapped():
    assert chosen(replace(ENGINE, settled=False), most=2) == Choice(ColdPath.ENGINE, 1)


def test_the_least_recently_used_of_several_is_taken():
    other = replace(ENGINE, index=1, last_used_ms=-5.0)
    assert chosen(ENGINE, other, most=2) == Choice(ColdPath.SWAP, 1)
    assert chosen(other, ENGINE, most=2) == Choice(ColdPath.SWAP, 1)


ENGINES = st.builds(
    EngineView,
    st.just(0),
    st.just("m"),
    st.sampled_from([KEY, b""]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2),
    st.floats(0, NOW_MS),
    st.floats(0, NOW_MS),
)


@given(st.lists(ENGINES, max_size=4))
def test_no_start_ends_an_engine_in_use_and_no_swap_takes_an_unsettled_one_at_once(views):
    engines = [replace(one, index=index) for index, one in enumerate(views)]
    choice = chosen(*engines, most=4)
    if choice is None:
        return
    there = next((one for one in engines if one.index == choice.index), None)
    if choice.path is ColdPath.SWAP:
        assert there is not None
        assert there.settled or choice.wait_ms > 0.0
        assert there.swap_key == KEY
    elif there is not None:
        assert there.in_flight == 0
