"""The real vLLM in pooling mode under the supervisor, and the fake one held against it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine_answers import ask, shape
from tests.support.engine_host import EngineHost
from tests.support.fake_engine_process import FakeEngineProcess

pytestmark = pytest.mark.timeout(300)

MODEL = "acme/small@1"
EMBEDDINGS = "/v1/embeddings"
MESSAGES = [{"role": "user", "content": "Say hi"}]


@pytest.fixture(scope="module")
def real(
    engine_environment: Path, small_model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The socket of one that is ready: it has embedded a word."""
    state_dir = tmp_path_factory.mktemp("real")
    with EngineHost(engine_environment, state_dir, model_dir=small_model_dir, embeds=True) as host:
        endpoint = host.until("ready")["endpoint"]
        assert endpoint["embeds"]
        yield endpoint["uds_path"]


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    uds = tmp_path_factory.mktemp("fake") / "e.sock"
    with FakeEngineProcess(MODEL, uds=uds, embeds=True):
        yield str(uds)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (EMBEDDINGS, {"input": "hello", "cache_salt": "x"}),
        (EMBEDDINGS, {"input": ["hello", "you"], "encoding_format": "base64"}),
        (EMBEDDINGS, {"input": [1, 2, 3]}),
        ("/v1/chat/completions", {"messages": MESSAGES}),
        ("/v1/messages", {"messages": MESSAGES, "max_tokens": 3}),
    ],
)
def test_the_fake_embeds_as_the_real_one_does(
    real: str, fake: str, path: str, body: dict[str, Any]
) -> None:
    real_status, real_answer = ask(real, path, {"model": MODEL} | body)
    fake_status, fake_answer = ask(fake, path, {"model": MODEL} | body)
    assert fake_status == real_status
    assert outline(fake_answer) == outline(real_answer)


def outline(answer: bytes) -> Any:
    """The shape of an answer, of any number of dimensions."""
    parsed = json.loads(answer)
    for one in parsed.get("data", []):
        one["embedding"] = one["embedding"][:1]
    return shape(parsed)
