"""Prompts as bytes: alike where an engine reads alike."""

from __future__ import annotations

from itertools import takewhile

import pytest

from agent.formats import FORMATS, ApiFormat
from agent.formats.chat import CHAT
from agent.formats.completions import COMPLETIONS

SYSTEM = {"role": "system", "content": "You are helpful. " * 20}
HELLO = {"role": "user", "content": "Hello"}
ANSWER = {"role": "assistant", "content": "Hi"}


def shared(api: ApiFormat, one: dict[str, object], other: dict[str, object]) -> int:
    both = [api.prompt_prefix(fields).decode() for fields in (one, other)]
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(*both, strict=False))
    return len(list(alike))


def test_a_longer_conversation_begins_like_the_shorter() -> None:
    short = {"messages": [SYSTEM, HELLO]}
    assert shared(CHAT, short, {"messages": [SYSTEM, HELLO, ANSWER]}) >= len(
        CHAT.prompt_prefix(short)
    ) - len("]")


def test_the_order_of_keys_and_what_is_no_prompt_do_not_matter() -> None:
    turned = {name: HELLO[name] for name in reversed(HELLO)}
    one = {"messages": [HELLO], "temperature": 0.5}
    assert CHAT.prompt_prefix(one) == CHAT.prompt_prefix({"messages": [turned]})


def test_tools_stand_before_the_conversation() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    with_tools = {"messages": [HELLO], "tools": tools}
    assert shared(CHAT, with_tools, {"messages": [HELLO]}) <= 3
    assert shared(CHAT, with_tools, {"messages": [SYSTEM], "tools": tools}) > 40


def test_text_and_tokens_of_completions() -> None:
    assert COMPLETIONS.prompt_prefix({"prompt": "Once"}) == b"Once"
    assert COMPLETIONS.prompt_prefix({"prompt": [1, 2]}) == b"[1,2]"


@pytest.mark.parametrize("api", FORMATS.values())
def test_every_format_is_read_and_anything_in_it_is_survived(api: ApiFormat) -> None:
    assert api.prompt_prefix({}) == b""
    for value in (None, 7, "x", [], {}, [[1]]):
        api.prompt_prefix(dict.fromkeys(api.prefix_fields, value))


def test_what_is_too_deep_to_be_written_has_no_prefix() -> None:
    deep: object = 1
    for _ in range(2_000):
        deep = [deep]
    assert CHAT.prompt_prefix({"messages": deep}) == b""


@pytest.mark.parametrize("size", [0, 1, 100, 5_000, 1_000_000])
def test_the_beginning_of_a_long_prompt_is_that_of_the_whole(size: int) -> None:
    messages = [
        {"role": "user", "content": f'{number} "quoted"\n中😀 ' * 40, "b": [1, {"z": 2, "a": None}]}
        for number in range(60)
    ]
    fields = {"tools": [{"type": "function"}], "messages": messages}
    whole, beginning = CHAT.prompt_prefix(fields), CHAT.prompt_prefix(fields, size)
    assert beginning[:size] == whole[:size]
    assert len(beginning) <= max(4 * size, 100) or beginning == whole
    text = "中 and more " * 1_000
    long_text = COMPLETIONS.prompt_prefix({"prompt": text}, size)
    assert long_text[:size] == text.encode()[:size]


def test_the_beginning_of_a_deep_prompt_is_short_not_an_error() -> None:
    deep: object = "x"
    for _ in range(2_000):
        deep = [deep]
    assert len(CHAT.prompt_prefix({"messages": deep}, 1_000)) < 100
