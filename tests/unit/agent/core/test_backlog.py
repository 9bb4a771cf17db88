"""Prompts without a first token: added, prefilled or given up, and the last progress."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.backlog import Backlog


def test_an_empty_backlog_has_no_tokens_and_no_progress() -> None:
    backlog = Backlog()
    assert (backlog.tokens, backlog.progress_ms(1_000.0)) == (0.0, 0.0)


def test_first_tokens_and_the_sending_of_the_next_prompt_are_progress() -> None:
    backlog = Backlog()
    first, second = backlog.add(100.0, 0.0), backlog.add(50.0, 10.0)
    assert backlog.tokens == 150.0
    assert backlog.progress_ms(30.0) == 30.0
    backlog.first_token(first, 40.0)
    assert backlog.tokens == 50.0
    assert backlog.progress_ms(45.0) == 5.0
    backlog.first_token(second, 60.0)
    backlog.add(7.0, 100.0)
    assert backlog.progress_ms(130.0) == 30.0, "it stood still since this one was sent"


def test_a_prompt_that_is_given_up_is_no_progress() -> None:
    backlog = Backlog()
    given_up = backlog.add(100.0, 0.0)
    backlog.add(50.0, 1.0)
    assert backlog.take_off(given_up)
    assert backlog.tokens == 50.0
    assert backlog.progress_ms(20.0) == 19.0
    assert not backlog.take_off(given_up)
    backlog.first_token(given_up, 20.0)
    assert backlog.progress_ms(20.0) == 19.0, "a token that comes after all is nobody's"


def test_progress_is_never_negative_if_the_clock_does_not_advance() -> None:
    backlog = Backlog()
    backlog.add(1.0, 100.0)
    assert backlog.progress_ms(50.0) == 0.0


@given(st.lists(st.tuples(st.floats(1.0, 1e6), st.booleans()), max_size=50))
def test_a_backlog_is_empty_after_all_its_prompts_were_removed(
    prompts: list[tuple[float, bool]],
) -> None:
    backlog = Backlog()
    keys = [backlog.add(tokens, 0.0) for tokens, _ in prompts]
    assert len(set(keys)) == len(keys)
    assert backlog.tokens == pytest.approx(sum(tokens for tokens, _ in prompts))
    for key, (_, answered) in zip(keys, prompts, strict=True):
        if answered:
            backlog.first_token(key, 1.0)
        else:
            backlog.take_off(key)
        assert backlog.tokens >= 0.0
    assert (len(backlog), backlog.tokens) == (0, 0.0)


def test_prompts_that_wait_for_a_place_are_ahead_of_their_own_account_only() -> None:
    backlog = Backlog()
    for _ in range(10):
        backlog.add(100.0, 0.0, "greedy")
    own = backlog.add(50.0, 0.0, "other")
    assert backlog.tokens_before("other", 0) == pytest.approx(1_050.0), "nothing is held back"
    assert backlog.tokens_before("greedy", 11) == 1_000.0
    assert backlog.tokens_before("other", 11) == 50.0
    assert backlog.tokens_before("newcomer", 11) == 0.0
    assert 0.0 < backlog.tokens_before("newcomer", 9) < 250.0
    backlog.take_off(own)
    assert backlog.tokens_before("other", 11) == 0.0
    assert Backlog().tokens_before("any", 5) == 0.0
