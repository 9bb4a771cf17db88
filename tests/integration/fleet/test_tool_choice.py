"""Who lets a model call tools is not sent to an engine without a parser of tool calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fake_vllm import fake_environment
from tests.support.fleet import Answer, Fleet
from tests.support.model_files import model_files
from tests.support.waiting import wait_until

NAME, MODEL = "tiny", "acme/tiny@1"
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
FUNCTION = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
TOOL: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [], "tools": [FUNCTION]},
    MESSAGES: {
        "messages": [],
        "max_tokens": 5,
        "tools": [{"name": "weather", "input_schema": {"type": "object"}}],
    },
    RESPONSES: {"input": "hi", "tools": [{"type": "function", "name": "weather"}]},
}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """GRU starts a vLLM of its own, without a parser of tool calls."""
    folder = tmp_path_factory.mktemp("o")
    source = folder / "model"
    source.mkdir()
    for path, content in model_files().items():
        (source / path).write_bytes(content)
    venv = fake_environment(folder / "venv", children=0)
    with (
        FakeEngineProcess("acme-chat") as engine,
        Fleet(folder / "fleet", [engine.url]) as running,
    ):
        running.edgeforge("model", "import", str(source), "--name", MODEL)
        running.configure("gru-1", "engine", kind="vllm", venv=str(venv))
        asked = ("deployment", "create", NAME, "--model", MODEL, "--account", "default")
        running.edgeforge(*asked, "--budget-ms", "1000", "--node", "gru-1")
        for agent in running.agents():
            wait_until(
                lambda agent=agent: agent.chat(model=NAME).status == 200, 60, "the model to serve"
            )
        yield running


def ask(fleet: Fleet, node: str, path: str, **fields: Any) -> tuple[Answer, int]:
    """The answer, and how many attempts were made for it."""
    agent = fleet.agent(node)
    answer = agent.send({"model": NAME} | TOOL[path] | fields, path=path)
    return answer, len(agent.last_request()["attempts"])


@pytest.mark.parametrize("node", ["gru-1", "iad-1"])
@pytest.mark.parametrize(
    ("path", "choice"),
    [
        (CHAT, {}),
        (CHAT, {"tool_choice": "auto"}),
        (CHAT, {"tool_choice": "required"}),
        (MESSAGES, {}),
        (MESSAGES, {"tool_choice": {"type": "auto"}}),
        (MESSAGES, {"tool_choice": {"type": "any"}}),
    ],
)
def test_tool_choice_auto_or_forced_without_a_parser_is_400_with_the_next_step_unasked(
    own: Fleet, node: str, path: str, choice: dict[str, Any]
) -> None:
    answer, attempts = ask(own, node, path, **choice)
    assert answer.status == 400
    told = answer.json()["error"]["message"]
    assert "cannot call tools" in told
    assert "engine.tool_parser" in told
    assert attempts == 0


@pytest.mark.parametrize(
    ("path", "choice"),
    [
        (CHAT, {"tool_choice": "none"}),
        (CHAT, {"tools": []}),
        (MESSAGES, {"tool_choice": {"type": "none"}}),
        (RESPONSES, {}),
    ],
)
def test_what_calls_no_tool_needs_no_parser(own: Fleet, path: str, choice: dict[str, Any]) -> None:
    answer, attempts = ask(own, "iad-1", path, **choice)
    assert (answer.status, attempts) == (200, 1)


def test_an_external_engine_never_told_what_it_has_and_answers_for_itself(own: Fleet) -> None:
    agent = own.agent("iad-1")
    assert agent.send({"model": own.model} | TOOL[CHAT]).status == 200


def test_with_a_parser_named_the_model_may_call_tools(own: Fleet) -> None:
    own.configure("gru-1", "engine", tool_parser="hermes")
    ready = lambda: ask(own, "gru-1", CHAT)[0].status == 200  # noqa: E731
    wait_until(ready, 60, "the engine with a parser to serve")
    wait_until(lambda: ask(own, "iad-1", CHAT)[0].status == 200, 30, "the other to know it")
