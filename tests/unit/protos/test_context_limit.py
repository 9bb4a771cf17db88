"""The context that a model is served with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protos.domain.context_limit import served_context_tokens
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
