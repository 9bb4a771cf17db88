"""What each format may not ask for, in every spelling that an engine would understand."""

from __future__ import annotations

from typing import Any

import pytest

from agent.formats import FORMATS, ApiFormat
from agent.formats.body_rules import REFUSED_FIELDS, BodyCaps, check_body
from agent.formats.chat import CHAT
from agent.formats.completions import COMPLETIONS
from agent.formats.embeddings import EMBEDDINGS
from agent.formats.messages import MESSAGES
from agent.formats.responses import RESPONSES
from protos.domain.errors import InvalidRequest

CAPS = BodyCaps(max_n=4, max_prompt_logprobs=5, max_inputs=3)
IMAGE = {"type": "image", "source": {"type": "url", "url": "http://169.254.169.254/"}}


@pytest.mark.parametrize("api", FORMATS.values())
@pytest.mark.parametrize("name", REFUSED_FIELDS)
@pytest.mark.parametrize("carrier", [None, "chat_template_kwargs", "vllm_xargs"])
def test_what_commands_an_engine_is_refused_in_every_format_and_in_what_is_handed_on(
    api: ApiFormat, name: str, carrier: str | None
) -> None:
    value: dict[str, object] = {name: "x"}
    with pytest.raises(InvalidRequest):
        check_body(api.rules, value if carrier is None else {carrier: value}, CAPS)


@pytest.mark.parametrize(
    ("api", "fields"),
    [
        (RESPONSES, {"previous_response_id": "resp_1"}),
        (RESPONSES, {"conversation": "conv_1"}),
        (RESPONSES, {"prompt": {"id": "pmpt_1"}}),
        (RESPONSES, {"background": True}),
        (RESPONSES, {"background": "true"}),
        (RESPONSES, {"tools": [{"type": ["mcp"]}]}),
        (RESPONSES, {"tools": [{"type": "functoin", "name": "f"}]}),
        (MESSAGES, {"tools": [{"type": "no_such_tool_20250101", "name": "f"}]}),
        (CHAT, {"tools": [{"type": 5}]}),
        (MESSAGES, {"mcp_servers": [{"url": "http://h/"}]}),
        (MESSAGES, {"container": "c"}),
        (EMBEDDINGS, {"encoding_format": "bytes"}),
        (EMBEDDINGS, {"encoding_format": ["float"]}),
        (EMBEDDINGS, {"input": ["a"] * 4}),
        (EMBEDDINGS, {"input": [[1]] * 4}),
        (COMPLETIONS, {"prompt": ["a"] * 4}),
        (COMPLETIONS, {"echo": True, "logprobs": 6}),
        (COMPLETIONS, {"echo": True, "logprobs": -1}),
        (COMPLETIONS, {"best_of": 5}),
        (MESSAGES, {"messages": [{"content": [IMAGE]}]}),
        (MESSAGES, {"messages": [{"content": [{"type": "tool_result", "content": [IMAGE]}]}]}),
        (MESSAGES, {"messages": [{"content": [{"source": {"url": "http://h/"}}]}]}),
        (MESSAGES, {"system": [IMAGE]}),
        (RESPONSES, {"input": [{"content": [{"type": "input_image", "image_url": "h"}]}]}),
        (RESPONSES, {"input": [{"content": [{"type": "input_file", "file_url": "h"}]}]}),
        (RESPONSES, {"input": [{"output": [{"type": "input_image"}]}]}),
        (RESPONSES, {"previous_input_messages": [{"content": [{"image_url": "h"}]}]}),
        (EMBEDDINGS, {"messages": [{"content": [{"image_url": {"url": "h"}}]}]}),
        (EMBEDDINGS, {"input": [[{"role": "u", "content": [{"type": "image_url"}]}]]}),
    ],
)
def test_a_refused_wish_names_its_field(api: ApiFormat, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_body(api.rules, fields, CAPS)
    assert caught.value.param in fields


@pytest.mark.parametrize(
    ("api", "fields"),
    [
        (RESPONSES, {"background": False, "tools": [{"type": "function", "name": "f"}]}),
        (
            CHAT,
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {"parameters": {"properties": {"image_url": {}}}},
                    }
                ]
            },
        ),
        (MESSAGES, {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}),
        (
            MESSAGES,
            {"messages": [{"content": [{"type": "tool_use", "input": {"image_url": "h"}}]}]},
        ),
        (MESSAGES, {"messages": [{"content": [{"type": "image", "source": {"data": "x"}}]}]}),
        (EMBEDDINGS, {"input": list(range(100)), "encoding_format": "base64"}),
        (COMPLETIONS, {"logprobs": 9, "prompt": list(range(100))}),
        (CHAT, {"messages": "no list", "tools": 5, "n": [9]}),
        (RESPONSES, {"input": 5, "tools": [5, None]}),
        (MESSAGES, {"messages": [{"content": [{"source": "x"}, 5, None]}]}),
    ],
)
def test_what_is_harmless_or_of_a_wrong_type_goes_on_to_the_engine(
    api: ApiFormat, fields: dict[str, Any]
) -> None:
    check_body(api.rules, fields, CAPS)


@pytest.mark.parametrize(
    "fields", [{"prompt_logprobs": 0}, {"prompt_logprobs": 1}, {"echo": True, "logprobs": 0}]
)
def test_logprobs_of_a_prompt_are_refused_where_engines_take_adapters(
    fields: dict[str, object],
) -> None:
    none = BodyCaps(max_n=4, max_prompt_logprobs=-1, max_inputs=3)
    with pytest.raises(InvalidRequest, match="adapters"):
        check_body(COMPLETIONS.rules, fields, none)
    check_body(COMPLETIONS.rules, fields, CAPS)
    check_body(COMPLETIONS.rules, {"prompt_logprobs": None, "echo": True}, none)
