"""Lists of many agents become one, in order and in pages."""

from __future__ import annotations

import pytest

from coordinator.operations.traces import merged
from tests.support.operations import line


def numbers(lines) -> list[int]:
    return [int(one.trace_id, 16) for one in lines]


@pytest.mark.parametrize(
    ("lists", "limit", "expected", "more"),
    [
        ([], 2, [], False),
        ([[3, 1], [2]], 5, [3, 2, 1], False),
        ([[3, 1], [4, 2]], 3, [4, 3, 2], True),
        ([[3, 2], []], 2, [3, 2], True),  # the agent that is full may hold more
    ],
)
def test_lists_are_merged_and_know_whether_there_is_more(lists, limit, expected, more):
    listed, after = merged([[line(number) for number in one] for one in lists], limit)
    assert numbers(listed) == expected
    assert after == (listed[-1].place if more else None)
