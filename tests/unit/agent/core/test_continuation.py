"""Which streams may go on elsewhere, and what the next engine is asked."""

from __future__ import annotations

import pytest

from agent.core.continuation import can_continue, continued

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MESSAGES = [{"role": "user", "content": "hello"}]


def chat(**fields: object) -> dict[str, object]:
    return {"model": "m", "messages": MESSAGES, "stream": True} | fields


def completion(**fields: object) -> dict[str, object]:
    return {"model": "m", "prompt": "Once", "stream": True} | fields


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
    assert can_continue(CHAT, fields)


@pytest.mark.parametrize(
    "fields",
    [
        chat(n=2),
        chat(tools=[{"type": "function"}]),
        chat(tool_choice="auto"),
        chat(response_format={"type": "json_object"}),
        chat(structured_outputs={"regex": "a"}),
        chat(logprobs=True),
        chat(presence_penalty=0.5),
        chat(frequency_penalty=-0.5),
        chat(echo=True),
        chat(continue_final_message=True, add_generation_prompt=False),
        chat(truncate_prompt_tokens=10),
        chat(something_new={"a": 1}),
        chat(messages=[]),
        chat(messages="hello"),
        chat(messages=[*MESSAGES, {"role": "assistant", "content": "Sure"}]),
        chat(max_tokens="100"),
        chat(min_tokens=1.5),
    ],
)
def test_what_the_answers_own_beginning_shapes_cannot(fields: dict[str, object]) -> None:
    assert not can_continue(CHAT, fields)


def test_completions_of_one_text_can_and_of_several_or_of_tokens_cannot() -> None:
    assert can_continue(COMPLETIONS, completion(best_of=1))
    assert not can_continue(COMPLETIONS, completion(prompt=["a"]))
    assert not can_continue(COMPLETIONS, completion(prompt=[1, 2]))
    assert not can_continue(COMPLETIONS, completion(suffix="end"))
    assert not can_continue(COMPLETIONS, completion(best_of=2))


def test_other_formats_cannot() -> None:
    assert not can_continue("/v1/responses", {"input": "x", "stream": True})


def test_a_chat_goes_on_behind_the_assistants_own_words() -> None:
    asked = chat(max_tokens=10, max_completion_tokens=9, min_tokens=5)
    changed = continued(CHAT, asked, "Hello there, ", 4)
    assert changed is not None
    assert changed["messages"] == [*MESSAGES, {"role": "assistant", "content": "Hello there,"}]
    assert changed["continue_final_message"] is True
    assert changed["add_generation_prompt"] is False
    assert (changed["max_tokens"], changed["max_completion_tokens"]) == (6, 5)
    assert changed["min_tokens"] == 1
    assert asked["messages"] == MESSAGES, "the client's own body stays as it was"


def test_a_completion_goes_on_behind_its_text_and_its_limit_is_the_engines_own_less() -> None:
    changed = continued(COMPLETIONS, completion(), " upon a ", 3)
    assert changed is not None
    assert changed["prompt"] == "Once upon a "
    assert changed["max_tokens"] == 13
    assert continued(COMPLETIONS, completion(max_tokens=None), " a", 1) is not None
    assert "max_tokens" not in (continued(CHAT, chat(), "a", 3) or {})


@pytest.mark.parametrize(
    ("path", "fields", "text", "tokens"),
    [
        (CHAT, chat(max_tokens=4), "a b c d", 4),
        (COMPLETIONS, completion(), "much", 16),
        (CHAT, chat(), " \n", 1),
        (COMPLETIONS, completion(), "", 0),
    ],
)
def test_nothing_left_to_say_or_nothing_to_go_on_from_is_no_request(
    path: str, fields: dict[str, object], text: str, tokens: int
) -> None:
    assert continued(path, fields, text, tokens) is None
