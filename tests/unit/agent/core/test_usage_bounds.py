"""Counts of another host: what is impossible is replaced by this agent's own count."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.core.usage_bounds import (
    SILENT_TOKENS,
    TEMPLATE_TOKENS,
    AskedTokens,
    UsageCheck,
)
from protos.domain.pricing import MAX_TOKENS, Usage

LIE = Usage(MAX_TOKENS, 0, MAX_TOKENS)
WORD = AskedTokens(body_bytes=90, context_tokens=4_096)


def check_of(asked: AskedTokens, expected: int = 20) -> UsageCheck:
    return UsageCheck(asked, lambda: expected)


def test_a_hundred_million_tokens_for_one_word_are_billed_by_our_own_count() -> None:
    check = check_of(WORD)
    assert check.checked(LIE, 1, 5, "gru-1") == Usage(20, 0, 1)
    assert check.exceeded_by == {"gru-1"}


def test_a_count_within_the_bounds_is_the_same_object() -> None:
    check, usage = check_of(WORD), Usage(40, 16, 7)
    assert check.checked(usage, 2, 9, "gru-1") is usage
    assert check.exceeded_by == set()


def test_one_impossible_count_makes_the_other_doubtful_too() -> None:
    assert check_of(WORD).checked(Usage(1_000, 900, 10_000), 4, 30, "x") == Usage(20, 20, 7)


def test_a_prompt_has_no_more_tokens_than_bytes_and_template_nor_than_the_context() -> None:
    assert WORD.most_prompt_tokens() < 90 + TEMPLATE_TOKENS + 16
    assert AskedTokens(body_bytes=90_000, context_tokens=4_096).most_prompt_tokens() == 4_096
    batch = AskedTokens(body_bytes=90_000, context_tokens=512, prompts=3)
    assert batch.most_prompt_tokens() == 3 * 512


def test_media_may_have_more_tokens_than_bytes() -> None:
    image = AskedTokens(body_bytes=200, context_tokens=32_768, has_media=True)
    assert image.most_prompt_tokens() == 32_768


def test_an_answer_has_no_more_tokens_than_were_asked_for_each_of_n() -> None:
    asked = AskedTokens(90, 4_096, sequences=3, max_tokens=10)
    assert asked.most_completion_tokens(1_000, 1_000) == 30
    assert AskedTokens(90, max_tokens=0).most_completion_tokens(9, 9) == 1, "vLLM generates one"


def test_an_answer_has_no_more_tokens_than_bytes_events_and_silent_ones() -> None:
    assert WORD.most_completion_tokens(3, 40) == 43 + SILENT_TOKENS
    hidden = AskedTokens(90, 4_096, silent_tokens=None)
    assert hidden.most_completion_tokens(3, 40) == 4_096, "reasoning that is not shown"


def test_embeddings_have_no_answer() -> None:
    assert AskedTokens(90, 512, embeds=True).most_completion_tokens(0, 10_000) == 0


counts = st.integers(0, MAX_TOKENS)
usages = st.builds(
    lambda prompt, cached, completion: Usage(prompt, min(prompt, cached), completion),
    *(counts, counts, counts),
)
asked = st.builds(
    AskedTokens,
    st.integers(0, 1 << 23),
    st.sampled_from([0, 512, 131_072]),
    st.integers(1, 2_048),
    st.integers(1, 2_048),
    st.none() | st.integers(0, 1 << 20),
    st.booleans(),
    st.booleans(),
    st.none() | st.integers(0, 400),
)


@given(asked, usages, st.integers(0, 10_000), st.integers(0, 1 << 20), st.integers(1, 1 << 22))
def test_what_is_billed_is_never_above_a_bound_nor_above_what_was_told(
    asked, told, events, text_bytes, expected
):
    check = check_of(asked, expected)
    billed = check.checked(told, events, text_bytes, "x")
    assert billed.prompt_tokens <= min(told.prompt_tokens, asked.most_prompt_tokens())
    most = asked.most_completion_tokens(events, text_bytes)
    assert billed.completion_tokens <= min(told.completion_tokens, most)
    assert billed.cached_tokens <= min(told.cached_tokens, billed.prompt_tokens)
    assert (billed is told) is (not check.exceeded_by)
    again = check_of(asked, expected)
    assert again.checked(billed, events, text_bytes, "x") is billed, "an own count stands"
    assert again.exceeded_by == set()


def test_our_own_count_of_a_short_text_is_a_token_so_that_it_does_not_look_empty() -> None:
    check = UsageCheck(AskedTokens(100), lambda: 5)
    believed = check.checked(Usage(MAX_TOKENS, 0, MAX_TOKENS), 0, 2, "far")
    assert believed == Usage(5, 0, 1)
    assert type(believed.completion_tokens) is int
    assert check.checked(Usage(MAX_TOKENS, 0, MAX_TOKENS), 0, 0, "far").completion_tokens == 0
