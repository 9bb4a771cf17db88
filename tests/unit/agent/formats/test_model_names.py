"""Answers say the model's name as the client asked for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.formats import FORMATS, ApiFormat
from agent.formats.chat import CHAT
from agent.formats.embeddings import EMBEDDINGS
from agent.formats.messages import MESSAGES
from agent.formats.model_names import renamed
from agent.formats.responses import RESPONSES

NAMES = (b'"o/n@1"', b'"chat"')
TOOL_INPUT = {"model": "o/n@1", "query": "x"}


def written(value: Any, *, spaces: bool = False) -> bytes:
    return json.dumps(value, separators=(", ", ": ") if spaces else (",", ":")).encode()


@pytest.mark.parametrize("spaces", [False, True])
@pytest.mark.parametrize(
    ("api", "answer"),
    [
        (CHAT, {"id": "a", "model": "o/n@1", "choices": [{"message": {"content": "m"}}]}),
        (CHAT, {"model": "o/n@1", "choices": [{"message": {"content": '"model":"o/n@1"'}}]}),
        (EMBEDDINGS, {"object": "list", "model": "o/n@1", "data": [{"embedding": [0.125]}]}),
        (MESSAGES, {"content": [{"type": "text", "text": "o/n@1"}], "model": "o/n@1"}),
        (MESSAGES, {"content": [{"type": "tool_use", "input": TOOL_INPUT}], "model": "o/n@1"}),
        (RESPONSES, {"metadata": TOOL_INPUT, "model": "o/n@1", "tools": [TOOL_INPUT]}),
        (RESPONSES, {"model": "o/n@1", "seed": 10**30, "tools": [TOOL_INPUT]}),
    ],
)
def test_a_whole_answer_has_the_name_that_was_asked_for_in_its_envelope_only(
    api: ApiFormat, answer: dict[str, Any], spaces: bool
) -> None:
    found = json.loads(api.as_asked(written(answer, spaces=spaces), NAMES))
    assert found == answer | {"model": "chat"}


@pytest.mark.parametrize("api", FORMATS.values(), ids=list(FORMATS))
def test_a_name_that_is_the_engines_own_costs_nothing(api: ApiFormat) -> None:
    body = written({"model": "o/n@1"})
    assert api.as_asked(body, None) is body


@pytest.mark.parametrize(
    "body",
    [
        b'{"input_tokens":5}',
        b'{"model":"another"}',
        b'{"choices":[{"model":"o/n@1"},{"model":"o/n@1"}]}',
        b'["o/n@1"]',
        b'{"a": "o/n@1" cut',
        b'"o/n@1"' + b"[" * 100_000,
        b"",
    ],
)
def test_what_has_no_such_envelope_passes_as_it_is(body: bytes) -> None:
    assert renamed(body, NAMES) == body
    assert renamed(body, NAMES, "response") == body


def test_a_name_is_written_as_json() -> None:
    asked = json.dumps('a"b').encode()
    assert json.loads(renamed(b'{"model":"o/n@1"}', (NAMES[0], asked)))["model"] == 'a"b'
