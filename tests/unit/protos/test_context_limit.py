"""The context that a model is served with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protos.domain.context_limit import (
    holds_prompt,
    longest_context_tokens,
    served_context_tokens,
)
from tests.support.fleets import MODEL, model, replica, view


def held(node_id: str, context_tokens: int):
    made = replica(node_id)
    return replace(made, profile=replace(made.profile, context_tokens=context_tokens))


@pytest.mark.parametrize(
    ("engines", "served"),
    [((), 8_192), ((0,), 8_192), ((2_048,), 2_048), ((2_048, 4_096), 2_048), ((99_999,), 8_192)],
)
def test_it_is_what_every_engine_holds_and_never_more_than_the_models_own(engines, served) -> None:
    rows = [held(f"n{at}", tokens) for at, tokens in enumerate(engines)]
    assert served_context_tokens(view(model(), *rows), MODEL) == served


def test_it_is_unknown_for_an_unknown_model() -> None:
    assert served_context_tokens(view(), "nosuch") is None
    assert served_context_tokens(view(held("n", 2_048)), MODEL) == 2_048
    assert served_context_tokens(view(model(context_tokens=0)), MODEL) is None


@pytest.mark.parametrize(
    ("engines", "own", "longest"),
    [
        ((), 8_192, 8_192),
        ((0,), 8_192, 8_192),
        ((2_048, 4_096), 8_192, 4_096),
        ((2_048, 0), 8_192, 8_192),
        ((99_999,), 8_192, 8_192),
        ((2_048, 4_096), 0, 4_096),
        ((0,), 0, 0),
    ],
)
def test_the_longest_is_that_of_one_engine_within_the_models_own(engines, own, longest) -> None:
    rows = [held(f"n{at}", tokens) for at, tokens in enumerate(engines)]
    assert longest_context_tokens(view(model(context_tokens=own), *rows), MODEL) == longest


def test_a_prompt_needs_room_for_one_more_token() -> None:
    assert holds_prompt(held("n", 100).profile, 99)
    assert not holds_prompt(held("n", 100).profile, 100)
    assert holds_prompt(held("n", 0).profile, 10**9)
