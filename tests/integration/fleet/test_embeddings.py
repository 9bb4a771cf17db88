"""An engine that embeds beside one that generates: each asked only for what it does."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import Fleet

WRITER, EMBEDDER = "acme-chat", "acme-embed"


@pytest.fixture(scope="module")
def embedder() -> Iterator[FakeEngineProcess]:
    with FakeEngineProcess(EMBEDDER) as process:
        yield process


@pytest.fixture(scope="module")
def mixed(embedder: FakeEngineProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """IAD generates; GRU's engine was started again to embed, and its agent told so."""
    with (
        FakeEngineProcess(WRITER) as writer,
        Fleet(tmp_path_factory.mktemp("e"), [writer.url, embedder.url]) as running,
    ):
        running.let_embed("gru-1", embedder)
        yield running


@pytest.mark.parametrize("node", ["iad-1", "gru-1"])
def test_the_openai_client_gets_embeddings_here_and_over_a_hop(
    mixed: Fleet, embedder: FakeEngineProcess, node: str
) -> None:
    agent = mixed.agent(node)
    embedder.control(prompt_tokens=6)
    base_url = f"{agent.url}/v1"
    with openai.OpenAI(base_url=base_url, api_key=agent.api_key, max_retries=0) as client:
        given = client.embeddings.create(model=EMBEDDER, input=["one", "two"])
        assert [one.embedding for one in given.data] == [[0.5, 0.5]] * 2
        assert given.usage.prompt_tokens == 12
        client.embeddings.create(model=EMBEDDER, input="one", encoding_format="float")
    record = agent.last_request()
    assert record["node_id"] == "gru-1"
    assert (record["prompt_tokens"], record["completion_tokens"]) == (6, 0)
    assert record["cost_nano_usd"] > 0
    asked = [one for one in embedder.requests() if one["path"] == "/v1/embeddings"]
    assert asked[-1]["body"]["cache_salt"]


@pytest.mark.parametrize("node", ["iad-1", "gru-1"])
@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v1/chat/completions", {"model": EMBEDDER, "messages": []}, "generates no text"),
        ("/v1/responses", {"model": EMBEDDER, "input": "a"}, "generates no text"),
        ("/v1/messages", {"model": EMBEDDER, "messages": []}, "generates no text"),
        ("/v1/embeddings", {"model": WRITER, "input": "a"}, "gives no embeddings"),
    ],
)
def test_the_other_kind_of_request_is_a_400_that_says_so(
    mixed: Fleet, node: str, path: str, body: dict[str, object], said: str
) -> None:
    answer = mixed.agent(node).send(body, path=path)
    assert answer.status == 400, answer.body
    assert said in answer.json()["error"]["message"]


def test_a_batch_over_the_limit_is_a_400(mixed: Fleet) -> None:
    body = {"model": EMBEDDER, "input": ["a"] * 2_049}
    answer = mixed.agent("iad-1").send(body, path="/v1/embeddings")
    assert answer.status == 400
    assert "at most 2048" in answer.json()["error"]["message"]


@pytest.mark.parametrize("node", ["gru-1", "iad-1"])
def test_prompts_that_are_embedded_fill_their_engine_here_and_over_a_hop(
    mixed: Fleet, embedder: FakeEngineProcess, node: str
) -> None:
    embedder.control(prompt_tokens=4_000)
    fill = lambda: mixed.agent("gru-1").status()["engine"]["fill_ratio"]  # noqa: E731
    before = fill()
    body = {"model": EMBEDDER, "input": "a"}
    assert mixed.agent(node).send(body, path="/v1/embeddings").status == 200
    assert fill() > before
    assert fill() > 0.9, "nothing before it was as much"
