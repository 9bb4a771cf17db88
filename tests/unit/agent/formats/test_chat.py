"""Chat Completions: its tools, and how its answers are continued."""

from __future__ import annotations

import pytest

from agent.formats.body_rules import needs_tool_parser
from agent.formats.chat import CHAT

MESSAGES = [{"role": "user", "content": "hello"}]


def chat(**fields: object) -> dict[str, object]:
    return {"model": "m", "messages": MESSAGES, "stream": True} | fields


def can_continue(fields: dict[str, object]) -> bool:
    stream = CHAT.continuable_stream(fields, include_usage=False, continuous_usage=False)
    return stream is not None


@pytest.mark.parametrize(
    "fields",
    [
        chat(),
        chat(temperature=0.7, seed=3, stop=["x"], max_tokens=100, n=1, user="u"),
        chat(tools=None, tool_choice="none", logprobs=False, presence_penalty=0),
        chat(response_format={"type": "text"}, add_generation_prompt=True),
    ],
)
def test_plain_chats_can_be_continued(fields: dict[str, object]) -> None:
    assert can_continue(fields)


@pytest.mark.parametrize(
    "fields",
    [
        chat(messages=[]),
        chat(messages="hello"),
        chat(messages=["hello"]),
        chat(messages=[*MESSAGES, {"role": "assistant", "content": "Sure"}]),
    ],
)
def test_a_chat_that_cannot_be_followed_by_an_answer_cannot(fields: dict[str, object]) -> None:
    assert not can_continue(fields)


def test_a_chat_goes_on_behind_the_assistants_own_words() -> None:
    asked = chat(max_tokens=10, max_completion_tokens=9, min_tokens=5)
    changed = CHAT.continued(asked, "Hello there, ", 4)
    assert changed is not None
    assert changed["messages"] == [*MESSAGES, {"role": "assistant", "content": "Hello there,"}]
    assert changed["continue_final_message"] is True
    assert changed["add_generation_prompt"] is False
    assert (changed["max_tokens"], changed["max_completion_tokens"]) == (6, 5)
    assert changed["min_tokens"] == 1
    assert asked["messages"] == MESSAGES, "the client's own body stays as it was"
    assert "max_tokens" not in (CHAT.continued(chat(), "a", 3) or {})


@pytest.mark.parametrize(
    ("fields", "needed"),
    [
        ({"tools": [{}]}, True),
        ({"tools": [{}], "tool_choice": "auto"}, True),
        ({"tools": [{}], "tool_choice": None}, False),
        ({"tools": [{}], "tool_choice": "none"}, False),
        ({"tools": [{}], "tool_choice": "required"}, True),
        ({"tools": [{}], "tool_choice": {"type": "function"}}, True),
        ({"tools": []}, False),
        ({"tool_choice": "auto"}, False),
    ],
)
def test_a_parser_is_needed_where_the_model_may_or_must_call_a_tool(
    fields: dict[str, object], needed: bool
) -> None:
    assert needs_tool_parser(CHAT.rules, fields) is needed
