"""Claude Code against a fleet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.clients.conftest import WRITER
from tests.clients.installs import INSTALLING, node_client, run_client, tool
from tests.clients.test_openai_python import TEXT
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient

pytestmark = INSTALLING
CLIENT = "Claude Code"


def claude(agent: AgentClient, folder: Path, *options: str) -> dict[str, Any]:
    """Let it do one turn; return its result."""
    packages = node_client(CLIENT) / "node_modules"
    program = packages / "@anthropic-ai" / "claude-code" / "cli-wrapper.cjs"
    argv: list[str | Path] = [tool(CLIENT, "node"), program, "--print", "--output-format", "json"]
    done = run_client(
        [*argv, "--model", WRITER, *options, "--", "say hello"],
        folder,
        ANTHROPIC_BASE_URL=agent.url,
        ANTHROPIC_AUTH_TOKEN=agent.api_key,
        ANTHROPIC_SMALL_FAST_MODEL=WRITER,
        CLAUDE_CODE_MAX_RETRIES="0",
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return dict(json.loads(done.stdout))


def test_a_turn_is_answered_with_its_usage(
    agent: AgentClient, engine: FakeEngineProcess, tmp_path: Path
) -> None:
    given = claude(agent, tmp_path)
    assert (given["result"], given["is_error"]) == (TEXT, False)
    assert (given["usage"]["input_tokens"], given["usage"]["output_tokens"]) == (7, 8)
    asked = engine.requests()[-1]
    assert asked["path"].partition("?")[0] == "/v1/messages"
    assert "Bash" in {one["name"] for one in asked["body"]["tools"]}


def test_the_engine_calls_a_tool_which_the_client_runs(
    agent: AgentClient, engine: FakeEngineProcess, tmp_path: Path
) -> None:
    call = {"command": "echo from-the-tool > made", "description": "make a file"}
    engine.control(tool_call={"name": "Bash", "arguments": call})
    given = claude(agent, tmp_path, "--allowed-tools", "Bash")
    assert (given["result"], given["num_turns"]) == (TEXT, 2)
    assert (tmp_path / "made").read_text() == "from-the-tool\n"
    last = engine.requests()[-1]["body"]["messages"][-1]["content"]
    assert "tool_result" in {one["type"] for one in last}
