"""aider against a fleet: it edits a file as the model says."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.clients.conftest import CONTEXT_TOKENS, WRITER
from tests.clients.installs import INSTALLING, python_client, run_client, tool
from tests.clients.test_openai_python import TEXT
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient

pytestmark = INSTALLING
CLIENT = "aider"
QUIET = (
    "--yes-always",
    "--no-check-update",
    "--no-show-release-notes",
    "--no-show-model-warnings",
    "--analytics-disable",
    "--no-detect-urls",
    "--no-gui",
    "--no-pretty",
)


def aider(agent: AgentClient, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Ask it once, in a repository with one file."""
    bin_dir = python_client(CLIENT)
    subprocess.run([tool(CLIENT, "git"), "init", "--quiet"], cwd=folder, check=True)
    (folder / "hello.py").write_text('print("hello")\n')
    # What it knows of models; a day passes before it asks the network for a newer one.
    known = folder / ".aider" / "caches" / "model_prices_and_context_window.json"
    known.parent.mkdir(parents=True)
    known.write_text(json.dumps({f"openai/{WRITER}": {"max_input_tokens": CONTEXT_TOKENS}}))
    return run_client(
        [
            bin_dir / "aider",
            *QUIET,
            *("--model", f"openai/{WRITER}", "--edit-format", "whole"),
            *options,
            *("--message", "say hello", "hello.py"),
        ],
        folder,
        OPENAI_API_BASE=f"{agent.url}/v1",
        OPENAI_API_KEY=agent.api_key,
        AIDER_ANALYTICS="false",
    )


def test_a_turn_streams(agent: AgentClient, engine: FakeEngineProcess, tmp_path: Path) -> None:
    done = aider(agent, tmp_path)
    assert done.returncode == 0, done.stderr
    assert TEXT in done.stdout
    asked = [one for one in engine.requests() if one["path"] == "/v1/chat/completions"]
    assert asked[0]["body"]["stream"] is True
    assert "hello.py" in str(asked[0]["body"]["messages"])


def test_a_turn_is_answered_whole(
    agent: AgentClient, engine: FakeEngineProcess, tmp_path: Path
) -> None:
    done = aider(agent, tmp_path, "--no-stream")
    assert done.returncode == 0, done.stderr
    assert TEXT in done.stdout
    assert "Tokens:" in done.stdout
