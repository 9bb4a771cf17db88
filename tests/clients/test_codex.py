"""The Codex command line against a fleet, with no configuration but the fleet's address."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import WRITER, deploy
from tests.clients.installs import INSTALLING, node_client, run_client
from tests.clients.test_openai_python import TEXT
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Fleet

pytestmark = INSTALLING
CLIENT = "the Codex CLI"
CONFIG = """\
model = "{model}"
model_provider = "fleet"
check_for_update_on_startup = false
analytics.enabled = false
feedback.enabled = false

[model_providers.fleet]
name = "fleet"
base_url = "{url}/v1"
env_key = "FLEET_API_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""


def codex(
    agent: AgentClient, folder: Path, *options: str
) -> tuple[list[dict[str, Any]], subprocess.CompletedProcess[str]]:
    """Let it do one turn; return its events."""
    program = node_client(CLIENT) / "node_modules" / ".bin" / "codex"
    settings = folder / ".codex"
    settings.mkdir()
    (settings / "config.toml").write_text(CONFIG.format(model=WRITER, url=agent.url))
    # The engine of this fleet decides what is run, so no sandbox is asked of this host.
    argv: list[str | Path] = [program, "exec", "--json", "--skip-git-repo-check"]
    argv += ["--dangerously-bypass-approvals-and-sandbox", *options, "say hello"]
    done = run_client(argv, folder, FLEET_API_KEY=agent.api_key)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")], done


def completed(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    items = [one["item"] for one in events if one["type"] == "item.completed"]
    return [item for item in items if item["type"] == kind]


def test_a_turn_is_answered_with_its_usage(
    agent: AgentClient, engine: FakeEngineProcess, tmp_path: Path
) -> None:
    events, done = codex(agent, tmp_path)
    assert done.returncode == 0, done.stdout
    assert [item["text"] for item in completed(events, "agent_message")] == [TEXT]
    assert events[-1]["type"] == "turn.completed"
    assert (events[-1]["usage"]["input_tokens"], events[-1]["usage"]["output_tokens"]) == (7, 8)
    (asked,) = engine.requests()
    assert asked["path"] == "/v1/responses"
    assert "exec_command" in {one.get("name") for one in asked["body"]["tools"]}


def test_the_engine_calls_a_tool_which_the_client_runs(
    agent: AgentClient, engine: FakeEngineProcess, tmp_path: Path
) -> None:
    command = "echo from-the-tool > made"
    engine.control(tool_call={"name": "exec_command", "arguments": {"cmd": command}})
    events, done = codex(agent, tmp_path)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "made").read_text() == "from-the-tool\n"
    assert [item["exit_code"] for item in completed(events, "command_execution")] == [0]
    assert [item["text"] for item in completed(events, "agent_message")] == [TEXT]
    given = [one.get("type") for one in engine.requests()[-1]["body"]["input"]]
    assert given[-2:] == ["function_call", "function_call_output"]


@pytest.mark.parametrize("model", ["gpt-5.5", "gpt-5.6-sol"])
def test_a_turn_is_answered_whatever_tools_it_sends_for_a_model_that_it_knows(
    fleet: Fleet, agent: AgentClient, tmp_path: Path, model: str
) -> None:
    """Freeform tools with a grammar, or tools as an item of the input: no engine takes those."""
    deploy(fleet, model)
    events, done = codex(agent, tmp_path, "--model", model)
    assert done.returncode == 0, done.stdout
    assert [item["text"] for item in completed(events, "agent_message")] == [TEXT]
