"""openai-node against a fleet, through undici's pool of kept connections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import EMBEDDER, WRITER
from tests.clients.installs import HERE, INSTALLING, node_client, run_client, tool
from tests.clients.test_openai_python import TEXT
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Fleet

pytestmark = INSTALLING
CLIENT = "openai-node"
WEATHER_CALL = {"name": "weather", "arguments": {"city": "Recife"}}


def node_turns(
    client: str, script: str, folder: Path, url: str, agent: AgentClient
) -> dict[str, Any]:
    """Run a script beside the installed packages and return what it printed."""
    installed = node_client(client)
    (folder / script).write_bytes((HERE / "node" / script).read_bytes())
    (folder / "node_modules").symlink_to(installed / "node_modules")
    argv = [tool(client, "node"), script, url, agent.api_key, WRITER, EMBEDDER]
    done = run_client(argv, folder)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def told(
    fleet: Fleet, engine: FakeEngineProcess, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Every turn of one run of the script."""
    agent = fleet.agent("gru-1")
    node_client(CLIENT)
    engine.control(tool_call=WEATHER_CALL)
    folder = tmp_path_factory.mktemp("node")
    return node_turns(CLIENT, "openai_turns.mjs", folder, f"{agent.url}/v1", agent)


def test_a_chat_is_answered(told: dict[str, Any]) -> None:
    assert told["whole"]["text"] == TEXT
    assert told["whole"]["usage"]["completion_tokens"] == 8
    assert told["whole"]["model"] == WRITER


def test_a_chat_streams_with_usage(told: dict[str, Any]) -> None:
    assert told["streamed"]["text"] == TEXT
    assert told["streamed"]["usage"]["completion_tokens"] == 8


def test_a_response_streams(told: dict[str, Any]) -> None:
    assert told["responded"]["text"] == TEXT
    assert told["responded"]["usage"]["output_tokens"] == 8


def test_a_tool_runs_and_its_result_is_answered(told: dict[str, Any]) -> None:
    assert told["tooled"] == {"text": TEXT, "seen": ["Recife"]}


def test_embeddings_are_answered(told: dict[str, Any]) -> None:
    """The client asks for base64 and decodes it."""
    assert told["embedded"] == {"vectors": [[0.5, 0.5]] * 2}


def test_models_are_listed_and_found(told: dict[str, Any]) -> None:
    assert {WRITER, EMBEDDER} <= set(told["listed"]["ids"])
    assert told["listed"]["found"] == WRITER


def test_an_unknown_model_has_its_class_and_code(told: dict[str, Any]) -> None:
    assert told["refused"]["name"] == "NotFoundError"
    assert told["refused"]["code"] == "model_not_found"


def test_answers_and_errors_name_their_request(told: dict[str, Any]) -> None:
    assert told["whole"]["request_id"]
    assert told["refused"]["request_id"]
