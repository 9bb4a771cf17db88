"""One sentence on the answers of two adapters."""

from __future__ import annotations

import pytest

from coordinator.core.answer_comparison import PROMPTS, comparison_of


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (["a b c", "d e f"], "2 of 2 answers are those of acme/fr@1"),
        (["a  b c ", "d e f"], "2 of 2 answers are those of acme/fr@1"),
        (
            ["a b x", "d e f"],
            "1 of 2 answers are those of acme/fr@1; the other 1 begin with 2 words in common",
        ),
        (
            ["a b", "x"],
            "0 of 2 answers are those of acme/fr@1; the other 2 begin with 2, 0 words in common",
        ),
    ],
)
def test_it_counts_equal_answers_and_the_words_before_others_differ(after, says):
    assert comparison_of("acme/fr@1", ["a b c", "d e f"], after) == says


def test_each_prompt_is_short_and_its_own():
    assert len({*PROMPTS}) == len(PROMPTS) == 6
    assert max(map(len, PROMPTS)) < 200
