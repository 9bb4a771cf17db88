"""Tools of Chat Completions, and that agents of programmers are not refused a turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.formats import FORMATS
from agent.formats.body import BodyCaps, read_body
from agent.formats.tools import HOSTED, family, fit_chat_tools
from protos.domain.errors import InvalidRequest

CAPS = BodyCaps(max_n=4, max_prompt_logprobs=5, max_inputs=3)
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {}}}
BODIES = sorted((Path(__file__).parents[3] / "support" / "client_bodies").glob("*.json"))


def fitted(**fields: Any) -> dict[str, Any]:
    fit_chat_tools(fields)
    return fields


@pytest.mark.parametrize("path", BODIES, ids=[path.stem for path in BODIES])
def test_what_agents_of_programmers_send_unconfigured_keeps_every_tool_that_they_run(
    path: Path,
) -> None:
    record = json.loads(path.read_text())
    given = record["body"]
    api = FORMATS[record["path"].partition("?")[0]]
    read = read_body(json.dumps(given).encode(), api, caps=CAPS)
    sent = json.loads(read.for_engine("o/n@1", continuous_usage=True, cache_salt="s"))
    more = [one for item in given.get("input", ()) for one in item.get("tools", ())]
    names = _names([*given.get("tools", ()), *more])
    assert names
    assert _names(sent["tools"]) == names
    kinds = {tool.get("type") for tool in _flat(sent["tools"])}
    assert kinds <= {None, "function", "custom", "local_shell", "tool_search"}
    assert not any(item.get("type") == "additional_tools" for item in sent.get("input", ()))
    assert b'"grammar"' not in json.dumps(sent["tools"]).encode()


def _flat(tools: list[Any]) -> list[Any]:
    nested = [one for tool in tools for one in tool.get("tools", ())]
    return [tool for tool in tools if tool.get("type") != "namespace"] + nested


def _names(tools: list[Any]) -> set[str]:
    return {tool["name"] for tool in _flat(tools) if "name" in tool}


@pytest.mark.parametrize("choice", ["auto", "none", "required", {"type": "web_search"}])
def test_tools_of_a_server_alone_leave_neither_tools_nor_a_choice(choice: object) -> None:
    for kind in sorted(HOSTED):
        assert fitted(tools=[{"type": kind}], tool_choice=choice) == {}
    assert fitted(tools=[], tool_choice=choice) == {}


def test_a_choice_of_a_dropped_tool_becomes_the_models() -> None:
    tools = [FUNCTION, {"type": "web_search_preview_2025_03_11"}]
    body = fitted(tools=tools, tool_choice={"type": "web_search_preview"})
    assert body == {"tools": [FUNCTION], "tool_choice": "auto"}
    chosen = {"type": "function", "function": {"name": "f"}}
    assert fitted(tools=tools, tool_choice=chosen)["tool_choice"] == chosen


def test_a_choice_without_tools_is_left_out_where_it_is_the_default() -> None:
    assert fitted(tool_choice="auto") == {}
    assert fitted(tools=None, tool_choice="auto") == {"tools": None}
    assert fitted(tool_choice="required") == {"tool_choice": "required"}


def test_a_custom_tool_becomes_a_function_with_one_text() -> None:
    grammar = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: A"}}
    custom = {"type": "custom", "custom": {"name": "c", "description": "d", "format": grammar}}
    body = fitted(tools=[custom], tool_choice={"type": "custom", "custom": {"name": "c"}})
    function = body["tools"][0]["function"]
    assert body["tools"][0]["type"] == "function"
    assert function["name"] == "c"
    assert function["parameters"]["required"] == ["input"]
    assert "start: A" in function["description"]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "c"}}


@pytest.mark.parametrize("tools", [5, "x", [5, None], [{}], [{"function": None}], [FUNCTION]])
def test_what_is_of_a_wrong_type_goes_on_to_the_engine(tools: object) -> None:
    assert fitted(tools=tools) == {"tools": tools}


@pytest.mark.parametrize("kind", ["fuction", 5, [], {}, "x" * 1000])
def test_a_type_that_nobody_knows_is_refused_by_its_field(kind: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        fitted(tools=[{"type": kind}])
    assert caught.value.param == "tools"
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("web_search_20250305", "web_search"),
        ("web_search_preview_2025_03_11", "web_search_preview"),
        ("bash_20250124", "bash"),
        ("bash", "bash"),
        ("bash_2025", "bash_2025"),
    ],
)
def test_a_version_is_no_part_of_a_tools_family(kind: str, name: str) -> None:
    assert family(kind) == name
