"""How the answers of spooled records ended."""

from __future__ import annotations

import pytest

from agent.core.usage_outcomes import MAX_AHEAD, Outcomes


def test_what_was_said_first_stays():
    outcomes = Outcomes()
    outcomes.note(2, 3, 1)
    outcomes.note(1, 4, 2)
    assert [outcomes.code(seq) for seq in range(7)] == [0, 2, 1, 1, 1, 0, 0]


def test_what_was_delivered_is_forgotten_and_later_notes_of_it_are_ignored():
    outcomes = Outcomes(10)
    outcomes.note(8, 5, 1)
    assert [outcomes.code(seq) for seq in (9, 10, 12, 13)] == [0, 1, 1, 0]
    outcomes.forget_before(12)
    outcomes.note(9, 2, 2)
    assert [outcomes.code(seq) for seq in (11, 12, 13)] == [0, 1, 0]
    outcomes.forget_before(5)
    assert outcomes.code(12) == 1


def test_forgetting_more_than_is_known():
    outcomes = Outcomes()
    outcomes.note(1, 3, 1)
    outcomes.forget_before(100)
    outcomes.note(100, 1, 2)
    assert outcomes.code(100) == 2


@pytest.mark.parametrize(("first", "count"), [(1, MAX_AHEAD + 1), (MAX_AHEAD + 2, 1)])
def test_a_note_far_ahead_is_refused(first: int, count: int):
    with pytest.raises(ValueError, match="a note of"):
        Outcomes().note(first, count, 1)
