"""LiteLLM against a fleet, by each of its providers that takes an address."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clients.conftest import EMBEDDER, WRITER
from tests.clients.installs import HERE, INSTALLING, python_client, run_client
from tests.clients.test_openai_node import WEATHER_CALL
from tests.clients.test_openai_python import TEXT, TOO_LONG
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import Fleet

pytestmark = INSTALLING


@pytest.fixture(scope="module")
def told(
    fleet: Fleet, engine: FakeEngineProcess, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Every turn of one run of the script."""
    python = python_client("litellm") / "python"
    agent = fleet.agent("gru-1")
    engine.control(tool_call=WEATHER_CALL)
    argv = [python, HERE / "litellm_turns.py", agent.url, agent.api_key, WRITER, EMBEDDER]
    done = run_client([*argv, str(len(TOO_LONG))], tmp_path_factory.mktemp("litellm"))
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "anthropic"])
def test_answers_streams_and_tool_calls_come_with_usage(
    told: dict[str, Any], provider: str
) -> None:
    assert told[provider] == {
        "text": TEXT,
        "tokens": 8,
        "streamed": TEXT,
        "streamed_tokens": 8,
        "call": ["weather", {"city": "Recife"}],
    }


def test_embeddings_are_answered(told: dict[str, Any]) -> None:
    assert told["vectors"] == [[0.5, 0.5]] * 2


def test_errors_have_its_own_classes(told: dict[str, Any]) -> None:
    assert told["unknown"] == "NotFoundError"
    assert told["stranger"] == "AuthenticationError"


def test_a_prompt_that_is_too_long_is_known_as_such(told: dict[str, Any]) -> None:
    """By this class it falls back to a model with a longer window."""
    assert told["too_long"] == "ContextWindowExceededError"
