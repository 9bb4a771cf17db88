"""The Vercel AI SDK against a fleet, by each of its providers that takes an address."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.installs import INSTALLING, node_client
from tests.clients.test_openai_node import WEATHER_CALL, node_turns
from tests.clients.test_openai_python import TEXT
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import Fleet

pytestmark = INSTALLING
CLIENT = "the Vercel AI SDK"
EVERY_PROVIDER = pytest.mark.parametrize(
    "provider", ["responses", "chat", "compatible", "messages"]
)


@pytest.fixture(scope="module")
def told(
    fleet: Fleet, engine: FakeEngineProcess, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Every turn of one run of the script."""
    agent = fleet.agent("gru-1")
    node_client(CLIENT)
    engine.control(tool_call=WEATHER_CALL)
    folder = tmp_path_factory.mktemp("vercel")
    return node_turns(CLIENT, "vercel_turns.mjs", folder, agent.url, agent)


@EVERY_PROVIDER
def test_text_is_generated_and_streamed_with_usage(told: dict[str, Any], provider: str) -> None:
    given = told[provider]
    assert "error" not in given, given
    assert (given["whole"], given["whole_tokens"]) == (TEXT, 8)
    assert (given["streamed"], given["streamed_tokens"]) == (TEXT, 8)


@EVERY_PROVIDER
def test_a_tool_runs_and_its_result_is_answered(told: dict[str, Any], provider: str) -> None:
    given = told[provider]
    assert "error" not in given, given
    assert (given["tooled"], given["seen"]) == (TEXT, ["Recife"])


def test_an_embedding_is_answered(told: dict[str, Any]) -> None:
    assert told["embedding"] == [0.5, 0.5]
