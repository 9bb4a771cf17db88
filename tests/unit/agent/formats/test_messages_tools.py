"""Tools of Messages: Anthropic's own get a schema or are left out."""

from __future__ import annotations

from typing import Any

import pytest

from agent.formats.messages_tools import fit_messages_tools
from protos.domain.errors import InvalidRequest

OWN = {"name": "f", "input_schema": {"type": "object"}}


def fitted(**fields: Any) -> dict[str, Any]:
    fit_messages_tools(fields)
    return fields


@pytest.mark.parametrize("tool", [OWN, OWN | {"type": "custom"}, OWN | {"type": None}, 5, {}])
def test_a_clients_own_tools_are_passed_on_as_they_are(tool: object) -> None:
    assert fitted(tools=[tool]) == {"tools": [tool]}


@pytest.mark.parametrize(
    ("kind", "name", "argument"),
    [
        ("bash_20250124", "bash", "command"),
        ("bash_20241022", "bash", "restart"),
        ("text_editor_20250429", "str_replace_based_edit_tool", "old_str"),
        ("text_editor_20250124", "str_replace_editor", "path"),
        ("computer_20250124", "computer", "coordinate"),
        ("memory_20250818", "memory", "new_path"),
    ],
)
def test_anthropics_tools_that_a_client_runs_get_their_schema(
    kind: str, name: str, argument: str
) -> None:
    choice = {"type": "tool", "name": name}
    body = fitted(tools=[{"type": kind, "name": name, "display_width_px": 9}], tool_choice=choice)
    (tool,) = body["tools"]
    assert set(tool) == {"name", "description", "input_schema"}
    assert tool["name"] == name
    assert argument in tool["input_schema"]["properties"]
    assert set(tool["input_schema"]["required"]) <= set(tool["input_schema"]["properties"])
    assert body["tool_choice"] == choice


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
        {"type": "web_fetch_20250910", "name": "web_fetch"},
        {"type": "code_execution_20250825", "name": "code_execution"},
        {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"},
        {"type": "mcp_toolset", "mcp_server_name": "s"},
    ],
)
def test_anthropics_tools_that_a_server_runs_are_left_out_with_the_choice_of_them(
    tool: dict[str, Any],
) -> None:
    choice = {"type": "tool", "name": tool.get("name")}
    assert fitted(tools=[tool], tool_choice=choice) == {}
    assert fitted(tools=[tool], tool_choice={"type": "any"}) == {}
    body = fitted(tools=[OWN, tool], tool_choice=choice)
    assert body["tools"] == [OWN]
    if "name" in tool:
        assert body["tool_choice"] == {"type": "auto"}


@pytest.mark.parametrize("kind", ["bsah_20250124", 5, []])
def test_a_type_that_nobody_knows_is_refused_by_its_field(kind: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        fitted(tools=[{"type": kind, "name": "x"}])
    assert caught.value.param == "tools"
