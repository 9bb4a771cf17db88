"""What an answer to a batch means."""

from __future__ import annotations

import pytest

from agent.core.usage_batch import BatchAnswer, Next, UsageBatch, after_answer

BATCH = UsageBatch("00" * 16, 11, 20)


@pytest.mark.parametrize(
    ("answer", "sought", "expected"),
    [
        (BatchAnswer(20), False, Next.GO_ON),
        (BatchAnswer(20), True, Next.GO_ON),
        # An answer of an earlier push of another state: both are caught up with.
        (BatchAnswer(15), False, Next.SEEK),
        (BatchAnswer(25), False, Next.SEEK),
        (BatchAnswer(5, refused=True), False, Next.SEEK),
        # Refused although it was what was asked for: not at once again.
        (BatchAnswer(10, refused=True), False, Next.SEEK_LATER),
        (BatchAnswer(5, refused=True), True, Next.SEEK_LATER),
        (BatchAnswer(20, refused=True), False, Next.SEEK),
    ],
)
def test_after_answer(answer: BatchAnswer, sought: bool, expected: Next):
    assert after_answer(BATCH, answer, sought=sought) is expected
