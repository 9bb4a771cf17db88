"""What each format may not ask for, in every spelling that an engine would understand."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core.routes import Api
from agent.gateway.body_rules import (
    MEDIA_PARTS,
    REFUSED_FIELDS,
    BodyCaps,
    check_body,
    needs_tool_parser,
)
from protos.domain.errors import InvalidRequest

CAPS = BodyCaps(max_n=4, max_prompt_logprobs=5, max_inputs=3)
IMAGE = {"type": "image", "source": {"type": "url", "url": "http://169.254.169.254/"}}


@pytest.mark.parametrize("api", list(Api))
@pytest.mark.parametrize("name", REFUSED_FIELDS)
@pytest.mark.parametrize("carrier", [None, "chat_template_kwargs", "vllm_xargs"])
def test_what_commands_an_engine_is_refused_in_every_format_and_in_what_is_handed_on(
    api: Api, name: str, carrier: str | None
) -> None:
    value = {name: "x"}
    with pytest.raises(InvalidRequest):
        check_body(api, value if carrier is None else {carrier: value}, CAPS)


@pytest.mark.parametrize(
    ("api", "fields"),
    [
        (Api.RESPONSES, {"previous_response_id": "resp_1"}),
        (Api.RESPONSES, {"conversation": "conv_1"}),
        (Api.RESPONSES, {"prompt": {"id": "pmpt_1"}}),
        (Api.RESPONSES, {"background": True}),
        (Api.RESPONSES, {"background": "true"}),
        (Api.RESPONSES, {"tools": [{"type": "mcp", "server_url": "http://h/"}]}),
        (Api.RESPONSES, {"tools": [{"type": "web_search_preview"}]}),
        (Api.RESPONSES, {"tools": [{"type": "code_interpreter"}]}),
        (Api.RESPONSES, {"tools": [{"type": "file_search"}]}),
        (Api.RESPONSES, {"tools": [{"type": "namespace", "tools": [{"type": "mcp"}]}]}),
        (Api.RESPONSES, {"tools": [{"type": ["mcp"]}]}),
        (Api.MESSAGES, {"mcp_servers": [{"url": "http://h/"}]}),
        (Api.MESSAGES, {"container": "c"}),
        (Api.MESSAGES, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        (Api.CHAT, {"tools": [{"type": "web_search"}]}),
        (Api.EMBEDDINGS, {"encoding_format": "bytes"}),
        (Api.EMBEDDINGS, {"encoding_format": ["float"]}),
        (Api.EMBEDDINGS, {"input": ["a"] * 4}),
        (Api.EMBEDDINGS, {"input": [[1]] * 4}),
        (Api.COMPLETIONS, {"prompt": ["a"] * 4}),
        (Api.COMPLETIONS, {"echo": True, "logprobs": 6}),
        (Api.COMPLETIONS, {"echo": True, "logprobs": -1}),
        (Api.COMPLETIONS, {"best_of": 5}),
        (Api.MESSAGES, {"messages": [{"content": [IMAGE]}]}),
        (Api.MESSAGES, {"messages": [{"content": [{"type": "tool_result", "content": [IMAGE]}]}]}),
        (Api.MESSAGES, {"messages": [{"content": [{"source": {"url": "http://h/"}}]}]}),
        (Api.MESSAGES, {"system": [IMAGE]}),
        (Api.RESPONSES, {"input": [{"content": [{"type": "input_image", "image_url": "h"}]}]}),
        (Api.RESPONSES, {"input": [{"content": [{"type": "input_file", "file_url": "h"}]}]}),
        (Api.RESPONSES, {"input": [{"output": [{"type": "input_image"}]}]}),
        (Api.RESPONSES, {"previous_input_messages": [{"content": [{"image_url": "h"}]}]}),
        (Api.EMBEDDINGS, {"messages": [{"content": [{"image_url": {"url": "h"}}]}]}),
        (Api.EMBEDDINGS, {"input": [[{"role": "u", "content": [{"type": "image_url"}]}]]}),
    ],
)
def test_a_refused_wish_names_its_field(api: Api, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_body(api, fields, CAPS)
    assert caught.value.param in fields


@pytest.mark.parametrize("name", sorted(MEDIA_PARTS))
@pytest.mark.parametrize("by_type", [True, False])
def test_media_by_address_is_refused_in_a_conversation(name: str, by_type: bool) -> None:
    part = {"type": name} if by_type else {name: "http://h/"}
    for api, fields in (
        (Api.CHAT, {"messages": [{"role": "user", "content": [part]}]}),
        (Api.RESPONSES, {"input": [{"role": "user", "content": [part]}]}),
    ):
        with pytest.raises(InvalidRequest):
            check_body(api, fields, CAPS)


@pytest.mark.parametrize(
    ("api", "fields"),
    [
        (Api.RESPONSES, {"background": False, "tools": [{"type": "function", "name": "f"}]}),
        (
            Api.CHAT,
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {"parameters": {"properties": {"image_url": {}}}},
                    }
                ]
            },
        ),
        (Api.MESSAGES, {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}),
        (
            Api.MESSAGES,
            {"messages": [{"content": [{"type": "tool_use", "input": {"image_url": "h"}}]}]},
        ),
        (Api.MESSAGES, {"messages": [{"content": [{"type": "image", "source": {"data": "x"}}]}]}),
        (Api.EMBEDDINGS, {"input": list(range(100)), "encoding_format": "base64"}),
        (Api.COMPLETIONS, {"logprobs": 9, "prompt": list(range(100))}),
        (Api.CHAT, {"messages": "no list", "tools": 5, "n": [9]}),
        (Api.RESPONSES, {"input": 5, "tools": [5, None]}),
        (Api.MESSAGES, {"messages": [{"content": [{"source": "x"}, 5, None]}]}),
    ],
)
def test_what_is_harmless_or_of_a_wrong_type_goes_on_to_the_engine(
    api: Api, fields: dict[str, Any]
) -> None:
    check_body(api, fields, CAPS)


@pytest.mark.parametrize(
    ("api", "fields", "left"),
    [
        (Api.CHAT, {"tools": [{}]}, True),
        (Api.CHAT, {"tools": [{}], "tool_choice": "auto"}, True),
        (Api.CHAT, {"tools": [{}], "tool_choice": None}, False),
        (Api.CHAT, {"tools": [{}], "tool_choice": "none"}, False),
        (Api.CHAT, {"tools": [{}], "tool_choice": "required"}, True),
        (Api.CHAT, {"tools": [{}], "tool_choice": {"type": "function"}}, True),
        (Api.CHAT, {"tools": []}, False),
        (Api.CHAT, {"tool_choice": "auto"}, False),
        (Api.MESSAGES, {"tools": [{}]}, True),
        (Api.MESSAGES, {"tools": [{}], "tool_choice": {"type": "auto"}}, True),
        (Api.MESSAGES, {"tools": [{}], "tool_choice": {"type": "none"}}, False),
        (Api.MESSAGES, {"tools": [{}], "tool_choice": {"type": "any"}}, True),
        (Api.RESPONSES, {"tools": [{}]}, False),
        (Api.COUNT_TOKENS, {"tools": [{}]}, False),
    ],
)
def test_a_parser_is_needed_where_the_model_may_or_must_call_a_tool(
    api: Api, fields: dict[str, object], left: bool
) -> None:
    assert needs_tool_parser(api, fields) is left
