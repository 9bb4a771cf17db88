"""Large bodies are looked at in steps: the event loop has its turn between two."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest

from agent.formats.asked_tokens import MEDIA_MARKS
from agent.formats.json_size import STEP_BYTES
from agent.relay.large_bodies import contains, fields_of_large

EIGHT_MIB = 8 * 1024 * 1024


def run(work: Coroutine[Any, Any, object]) -> tuple[bool, int]:
    """Return the result, and how often the event loop had its turn."""
    turns = 0
    while True:
        try:
            work.send(None)
        except StopIteration as done:
            return bool(done.value), turns
        turns += 1


def test_a_mark_of_media_is_looked_for_in_steps() -> None:
    """In a text of the letters of a mark it takes 40 ms, in which no stream got a token."""
    found, turns = run(contains(b"a" * EIGHT_MIB, MEDIA_MARKS))
    assert not found
    assert turns >= EIGHT_MIB // STEP_BYTES


@pytest.mark.parametrize("mark", MEDIA_MARKS)
@pytest.mark.parametrize("shift", range(8))
def test_a_mark_is_found_wherever_the_steps_cut_it(mark: bytes, shift: int) -> None:
    at = 2 * STEP_BYTES - shift
    body = b"x" * at + mark + b"x" * STEP_BYTES
    assert run(contains(body, MEDIA_MARKS))[0]
    assert not run(contains(b"x" * at + mark[:-1] + b"x", MEDIA_MARKS))[0]


def test_a_large_body_is_parsed_in_a_step_of_its_own() -> None:
    body = b'{"model":"m","x":"' + b"a" * EIGHT_MIB + b'"}'
    parsed, turns = run(fields_of_large(body))
    assert parsed
    assert turns > EIGHT_MIB // STEP_BYTES
    assert run(fields_of_large(b"{}")) == (False, 0)
