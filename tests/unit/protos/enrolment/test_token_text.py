"""Tokens as text: each command takes its own, and no error repeats a secret."""

from __future__ import annotations

import pytest

from protos.domain.errors import InvalidRequest
from protos.enrolment.token_text import (
    PREFIX_OF_NODE,
    PREFIX_OF_OPERATOR,
    EnrolmentToken,
    parse_token,
    token_text,
)

CA = "ab" * 32
SECRET = "s" * 43


@pytest.mark.parametrize("prefix", [PREFIX_OF_NODE, PREFIX_OF_OPERATOR])
def test_what_is_written_is_read_back(prefix):
    text = token_text(prefix, CA, "id-1", SECRET)
    assert parse_token(f" {text}\n", prefix) == EnrolmentToken(CA, "id-1", SECRET)


@pytest.mark.parametrize(
    ("given", "wanted", "command"),
    [
        (PREFIX_OF_NODE, PREFIX_OF_OPERATOR, "edgeforge-agent enroll"),
        (PREFIX_OF_OPERATOR, PREFIX_OF_NODE, "edgeforge login"),
    ],
)
def test_a_token_for_the_other_command_is_refused_with_the_command_it_is_for(
    given, wanted, command
):
    with pytest.raises(InvalidRequest, match=command) as caught:
        parse_token(token_text(given, CA, "id-1", SECRET), wanted)
    assert SECRET not in str(caught.value) + str(caught.value.hint)


@pytest.mark.parametrize(
    "text",
    ["", "EFO1", f"EFO1.{CA}.id.short", f"EFO2.{CA}.id.{SECRET}", f"EFO1.{CA[1:]}.id.{SECRET}"],
)
def test_what_is_no_token_is_refused_without_repeating_it(text):
    with pytest.raises(InvalidRequest) as caught:
        parse_token(text, PREFIX_OF_OPERATOR)
    assert SECRET not in str(caught.value)


def test_a_token_is_not_shown_by_a_traceback():
    assert SECRET not in repr(EnrolmentToken(CA, "id-1", SECRET))
