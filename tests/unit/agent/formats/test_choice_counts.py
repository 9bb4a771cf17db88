"""Counts of choices are added up where no event has counted them all."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from agent.formats.choice_counts import ChoiceCounts


def event(index: object, *others: object) -> bytes:
    return orjson.dumps({"choices": [{"index": one} for one in (index, *others)]})


def usage(prompt: object, completion: object) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": 0}


def test_answers_to_one_prompt_have_it_once_and_their_tokens_each() -> None:
    counts = ChoiceCounts(2)
    counts.note(event(0), usage(10, 1))
    counts.note(event(1), usage(10, 4))
    counts.note(event(0), usage(10, 3))
    total = {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17}
    assert counts.total(usage(10, 3)) == total


def test_each_prompt_of_a_batch_counts() -> None:
    counts = ChoiceCounts(2)
    for index, prompt in ((0, 10), (1, 10), (2, 30), (3, 30)):
        counts.note(event(index), usage(prompt, 5))
    assert counts.total(usage(30, 5))["prompt_tokens"] == 40
    assert counts.total(usage(30, 5))["completion_tokens"] == 20


@pytest.mark.parametrize(
    "payload",
    [
        *(b"no JSON", b"[]", b'{"choices":[]}', b"{}"),
        *(event(0, 1), event("0"), event(True), event(-1), event(10**6)),
    ],
)
def test_what_tells_no_single_choice_changes_nothing(payload: bytes) -> None:
    counts, latest = ChoiceCounts(1), usage(10, 3)
    counts.note(payload, latest)
    assert counts.total(latest) is latest


def test_counts_that_are_none_are_0() -> None:
    counts = ChoiceCounts(1)
    counts.note(event(0), usage(-5, "9"))
    counts.note(event(1), usage(2**80, 1))
    assert counts.total({})["total_tokens"] == 1
