"""Tools of Responses: run by the client, passed on; run by a server, left out."""

from __future__ import annotations

from typing import Any

import pytest

from agent.formats.responses_tools import fit_responses_tools
from protos.domain.errors import InvalidRequest

FUNCTION = {"type": "function", "name": "f", "parameters": {}}
SHELL = {"type": "local_shell"}
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: A"}


def fitted(**fields: Any) -> dict[str, Any]:
    fit_responses_tools(fields)
    return fields


@pytest.mark.parametrize(
    "tool",
    [
        FUNCTION,
        SHELL,
        {"type": "shell"},
        {"type": "shell", "environment": {"type": "local"}},
        {"type": "apply_patch"},
        {"type": "tool_search", "execution": "client"},
        {"type": "custom", "name": "c", "format": {"type": "text"}},
        {"type": "namespace", "name": "n", "tools": [FUNCTION]},
        {"type": "namespace", "name": "n", "tools": 5},
        5,
        None,
        {},
    ],
)
def test_what_the_client_runs_is_passed_on_as_it_is(tool: object) -> None:
    assert fitted(tools=[tool])["tools"] == [tool]


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "web_search"},
        {"type": "web_search_2025_08_26"},
        {"type": "web_search_preview"},
        {"type": "file_search", "vector_store_ids": ["v"]},
        {"type": "code_interpreter", "container": {"type": "auto"}},
        {"type": "image_generation"},
        {"type": "mcp", "server_url": "http://h/"},
        {"type": "computer_use_preview"},
        {"type": "computer"},
        {"type": "shell", "environment": {"type": "container_auto"}},
        {"type": "namespace", "name": "n", "tools": [{"type": "mcp"}]},
        {"type": "namespace", "name": "n", "tools": []},
    ],
)
@pytest.mark.parametrize("choice", ["auto", "required", {"type": "web_search"}])
def test_what_would_need_a_server_is_left_out_with_the_choice_of_it(
    tool: dict[str, Any], choice: object
) -> None:
    assert fitted(tools=[tool], tool_choice=choice) == {}
    kept = fitted(tools=[FUNCTION, tool])
    assert kept["tools"] == [FUNCTION]


@pytest.mark.parametrize("kind", ["web_search", "web_search_preview", "mcp", "local_shell"])
def test_a_choice_of_what_no_engine_calls_becomes_the_models(kind: str) -> None:
    assert fitted(tools=[FUNCTION], tool_choice={"type": kind}) == {"tools": [FUNCTION]}


@pytest.mark.parametrize(
    "choice",
    ["auto", "required", {"type": "function", "name": "f"}, {"type": "allowed_tools"}, 5],
)
def test_other_choices_are_the_engines_to_judge(choice: object) -> None:
    assert fitted(tools=[FUNCTION], tool_choice=choice)["tool_choice"] == choice


def test_a_tool_that_must_be_called_but_that_no_model_sees_is_not_demanded() -> None:
    assert fitted(tools=[SHELL], tool_choice="required") == {"tools": [SHELL]}


def test_a_grammar_is_described_to_the_model_because_the_engine_takes_none() -> None:
    custom = {"type": "custom", "name": "apply_patch", "description": "d", "format": GRAMMAR}
    tool = fitted(tools=[custom])["tools"][0]
    assert tool["format"] == {"type": "text"}
    assert tool["description"] == "d\n\nThe input follows this lark grammar:\nstart: A"
    assert custom["format"] == GRAMMAR


def test_custom_tools_in_a_namespace_are_put_beside_it_where_a_model_sees_them() -> None:
    custom = {"type": "custom", "name": "exec", "format": GRAMMAR}
    namespace = {"type": "namespace", "name": "n", "tools": [FUNCTION, custom, {"type": "mcp"}]}
    first, second = fitted(tools=[namespace])["tools"]
    assert first == {"type": "namespace", "name": "n", "tools": [FUNCTION]}
    assert second["name"] == "exec"


def test_tools_in_the_input_are_moved_to_where_the_engine_looks() -> None:
    said = {"role": "user", "content": "hi"}
    items = [{"type": "additional_tools", "role": "developer", "tools": [FUNCTION]}, said, 5]
    assert fitted(input=items) == {"input": [said, 5], "tools": [FUNCTION]}
    both = fitted(input=items, tools=[SHELL])
    assert both["tools"] == [SHELL, FUNCTION]
    assert fitted(input=[{"type": "additional_tools", "tools": 5}]) == {"input": []}


def test_nulls_that_the_engine_refuses_are_left_out() -> None:
    assert fitted(tools=None, tool_choice=None) == {}


@pytest.mark.parametrize("kind", ["functoin", 5, ["mcp"]])
def test_a_type_that_nobody_knows_is_refused_by_its_field(kind: object) -> None:
    for tool in ({"type": kind}, {"type": "namespace", "tools": [{"type": kind}]}):
        with pytest.raises(InvalidRequest) as caught:
            fitted(tools=[tool])
        assert caught.value.param == "tools"
