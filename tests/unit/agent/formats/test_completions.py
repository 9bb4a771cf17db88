"""Completions: how their answers are continued."""

from __future__ import annotations

from agent.formats.completions import COMPLETIONS


def completion(**fields: object) -> dict[str, object]:
    return {"model": "m", "prompt": "Once", "stream": True} | fields


def can_continue(fields: dict[str, object]) -> bool:
    stream = COMPLETIONS.continuable_stream(fields, include_usage=False, continuous_usage=False)
    return stream is not None


def test_completions_of_one_text_can_and_of_several_or_of_tokens_cannot() -> None:
    assert can_continue(completion(best_of=1))
    assert not can_continue(completion(prompt=["a"]))
    assert not can_continue(completion(prompt=[1, 2]))
    assert not can_continue(completion(suffix="end"))
    assert not can_continue(completion(best_of=2))


def test_a_completion_goes_on_behind_its_text_and_its_limit_is_the_engines_own_less() -> None:
    changed = COMPLETIONS.continued(completion(), " upon a ", 3)
    assert changed is not None
    assert changed["prompt"] == "Once upon a "
    assert changed["max_tokens"] == 13
    assert COMPLETIONS.continued(completion(max_tokens=None), " a", 1) is not None
