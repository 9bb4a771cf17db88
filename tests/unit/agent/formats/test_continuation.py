"""Which streams may go on elsewhere, and what the next engine is asked."""

from __future__ import annotations

import pytest

from agent.formats import ApiFormat
from agent.formats.chat import CHAT
from agent.formats.completions import COMPLETIONS
from agent.formats.responses import RESPONSES

MESSAGES = [{"role": "user", "content": "hello"}]


def can_continue(api: ApiFormat, fields: dict[str, object]) -> bool:
    stream = api.continuable_stream(fields, include_usage=False, continuous_usage=False)
    return stream is not None


def chat(**fields: object) -> dict[str, object]:
    return {"model": "m", "messages": MESSAGES, "stream": True} | fields


def completion(**fields: object) -> dict[str, object]:
    return {"model": "m", "prompt": "Once", "stream": True} | fields


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
        chat(max_tokens="100"),
        chat(min_tokens=1.5),
    ],
)
def test_what_the_answers_own_beginning_shapes_cannot(fields: dict[str, object]) -> None:
    assert not can_continue(CHAT, fields)


def test_other_formats_cannot() -> None:
    assert not can_continue(RESPONSES, {"input": "x", "stream": True})


@pytest.mark.parametrize(
    ("api", "fields", "text", "tokens"),
    [
        (CHAT, chat(max_tokens=4), "a b c d", 4),
        (COMPLETIONS, completion(), "much", 16),
        (CHAT, chat(), " \n", 1),
        (COMPLETIONS, completion(), "", 0),
    ],
)
def test_nothing_left_to_say_or_nothing_to_go_on_from_is_no_request(
    api: ApiFormat, fields: dict[str, object], text: str, tokens: int
) -> None:
    assert api.continued(fields, text, tokens) is None
