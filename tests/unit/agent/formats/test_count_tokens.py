"""Token counting: a Messages body that is neither generated for nor refused for its length."""

from __future__ import annotations

import json

import pytest

from agent.formats.body import BodyCaps
from agent.formats.body_rules import check_body, needs_tool_parser
from agent.formats.count_tokens import COUNT_TOKENS
from protos.domain.errors import InvalidRequest

CAPS = BodyCaps(max_n=4, max_prompt_logprobs=5, max_inputs=3)


def test_an_engine_without_the_route_is_explained() -> None:
    said = json.loads(COUNT_TOKENS.engine_refusal(404, b'{"detail":"Not Found"}'))
    assert said["error"]["type"] == "not_found_error"
    assert "counts no tokens" in said["error"]["message"]


def test_an_engines_own_404_keeps_its_message() -> None:
    body = b'{"error":{"message":"no such model"}}'
    said = json.loads(COUNT_TOKENS.engine_refusal(404, body))
    assert said["error"]["message"] == "no such model"


def test_a_long_prompt_is_counted_rather_than_refused() -> None:
    assert COUNT_TOKENS.estimate_prompt_tokens({"messages": [{"content": "x" * 100_000}]}) == 1


@pytest.mark.parametrize("name", ["mcp_servers", "container"])
def test_what_messages_refuses_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        check_body(COUNT_TOKENS.rules, {name: "x"}, CAPS)


def test_tools_need_no_parser() -> None:
    assert not needs_tool_parser(COUNT_TOKENS.rules, {"tools": [{}]})
