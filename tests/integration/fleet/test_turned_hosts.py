"""Enrolled hosts that were turned: what they claim wins no request and no money."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from agent.link.identity import load_stored
from protos.domain.pricing import MAX_TOKENS
from protos.v1 import resources_pb2
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Answer, Fleet
from tests.support.scripted_agent import NodeIdentity, ScriptedAgent
from tests.support.waiting import wait_until

FLATTERING = resources_pb2.EngineProfile(
    first_token_ms_p99=0.1, prefill_ms_per_token=0.0, max_parallel=65_536, tokens_per_s=1e9
)
TRIO = "external/trio@1"


def claims(fleet: Fleet, node: str) -> list[str]:
    """What ``node ls`` says that a node claims."""
    return [str(one["detail"]) for one in fleet.node_info(node).get("claims", ())]


# --- replicas and profiles


@dataclass
class Listener:
    """Where a ``ScriptedAgent`` connects."""

    fleet_address: str

    def address(self, _listener: str) -> str:
        return self.fleet_address


@asynccontextmanager
async def turned(fleet: Fleet, node: str) -> AsyncIterator[ScriptedAgent]:
    """``node`` runs another program, with its own certificate, which reports the model as ready."""
    await asyncio.to_thread(fleet.kill, node)
    held = load_stored(fleet.state_dir / "agents" / node / "identity")
    pems = (held.key_pem, held.cert_pem, held.ca_pem)
    port = json.loads((fleet.state_dir / "fleet.json").read_text())["fleet_port"]
    agent = ScriptedAgent(Listener(f"127.0.0.1:{port}"), NodeIdentity(node, *pems))
    agent.engine_kind = "external"
    hello = agent.hello()
    hello.profile.CopyFrom(FLATTERING)
    await agent.connect(hello)
    ready = {"model": TRIO, "state": resources_pb2.REPLICA_STATE_READY, "generation": 9}
    agent.keep_reporting(replicas=[ready])
    try:
        yield agent
    finally:
        await agent.disconnect()


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A deployment of a model on two engines, pinned to the one in the zone of iad-2's engine."""
    with (
        FakeEngineProcess("trio") as one,
        FakeEngineProcess("trio") as two,
        FakeEngineProcess("other") as three,
        Fleet(tmp_path_factory.mktemp("t"), [one.url, two.url, three.url]) as fleet,
    ):
        fleet.edgeforge("deployment", "set", "trio", "--node", "iad-1")
        yield fleet


def replicas(fleet: Fleet) -> set[str]:
    """The nodes with a replica in the table."""
    listed = json.loads(fleet.edgeforge("deployment", "ls", "--json"))
    shown = next(one for one in listed if one["deployment"]["name"] == "trio")
    return {str(one["node_id"]) for one in shown.get("replicas", ())}


async def test_a_node_that_was_given_no_model_gets_none_of_the_prompts_of_others(
    trio: Fleet,
) -> None:
    """It reports the model as ready, with a flattering profile, in the zone of the pinned node."""
    async with turned(trio, "iad-2"):
        await asyncio.to_thread(
            wait_until, lambda: claims(trio, "iad-2"), 60, "the claim to be shown"
        )
        assert await asyncio.to_thread(claims, trio, "iad-2") == [
            f"claims {TRIO} that it was not ordered"
        ]
        assert "iad-2" not in await asyncio.to_thread(replicas, trio)
        served = [await asyncio.to_thread(trio.agent("gru-1").chat) for _ in range(8)]
    assert [answer.headers["x-edgeforge-node"] for answer in served] == ["iad-1"] * 8
    told = trio.edgeforge("node", "show", "iad-2")
    assert "that it was not ordered" in told
    assert "edgeforge_coordinator_unordered_replicas_total 1.0" in trio.metrics("coordinator")
    assert "claim dropped node=iad-2" in trio.log("coordinator")


def test_an_own_engine_that_a_deployment_is_not_pinned_to_serves_none_of_it(trio: Fleet) -> None:
    """Another deployment keeps the model on gru-1; the pinned one goes on over the distance."""
    create = ("deployment", "create", "trio-gru", "--model", TRIO, "--account", "default")
    trio.edgeforge(*create, "--budget-ms", "500", "--node", "gru-1")
    gru = trio.agent("gru-1")
    pinned_here = AgentClient(
        {"node": gru.node, "url": gru.url, "pid": gru.pid, "admin": gru.admin_socket},
        gru.api_key,
        "trio-gru",
    )
    wait_until(lambda: pinned_here.chat().status == 200, 60, "gru-1 to serve the other deployment")
    assert pinned_here.chat().headers["x-edgeforge-node"] == "gru-1"
    assert gru.chat().headers["x-edgeforge-node"] == "iad-1"
    explained = trio.edgeforge("route", "explain", "--deployment", "trio", "--via", "gru-1")
    assert "is not pinned to" in " ".join(explained.split())
    trio.kill("iad-1")
    try:
        answer = gru.chat()
        assert answer.status == 503, "never another node, even when the pinned one is lost"
    finally:
        trio.start("iad-1")
        trio.agent("iad-1").wait_ready()


# --- tokens


def generate(agent: AgentClient, path: str, **fields: Any) -> Answer:
    body: dict[str, Any] = {"model": agent.model, "max_tokens": 20, **fields}
    if path == "/v1/responses":
        body |= {"input": "hi", "max_output_tokens": body.pop("max_tokens")}
    elif path == "/v1/completions":
        body["prompt"] = "hi"
    else:
        body["messages"] = [{"role": "user", "content": "hi"}]
    return agent.send(body, path=path)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]
)
def test_a_host_that_claims_100_million_tokens_for_a_word_is_paid_for_the_word(
    fleet: Fleet, engine: FakeEngineProcess, path: str, stream: bool
) -> None:
    gru = fleet.agent("gru-1")
    engine.control(tokens=1, prompt_tokens=MAX_TOKENS, claimed_tokens=MAX_TOKENS)
    options = {"stream_options": {"include_usage": True}} if "completions" in path else {}
    fields = {"stream": True, **options} if stream else {}
    answer = generate(gru, path, **fields)
    assert answer.status == 200
    assert str(MAX_TOKENS).encode() not in answer.body, "what is billed is what is shown"
    last = gru.last_request()
    assert last["usage_exceeded"]
    assert last["prompt_tokens"] < 100
    assert last["completion_tokens"] <= 3
    assert 0 < last["cost_nano_usd"] < 100_000
    if not stream:
        assert float(answer.headers["x-edgeforge-cost-usd"]) < 0.0001


def test_such_a_host_is_shown_to_operators_and_an_honest_one_is_not(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    gru = fleet.agent("gru-1")
    engine.control(tokens=5)
    generate(gru, "/v1/chat/completions")
    assert not gru.last_request()["usage_exceeded"]
    assert gru.last_request()["prompt_tokens"] == 7
    compared = gru.status()["counts_compared"]
    assert compared["agreed"] >= 1, "the serving agent tells its own count"
    assert not compared["differed"]
    engine.control(tokens=1, claimed_tokens=1_000)
    generate(gru, "/v1/chat/completions")
    wait_until(lambda: claims(fleet, "iad-1"), 30, "the claim to be shown")
    assert "claimed more tokens than possible" in claims(fleet, "iad-1")[0]
    assert "say gru-1" in claims(fleet, "iad-1")[0]
    assert "edgeforge_gateway_usage_exceeded_total" in fleet.metrics("gru-1")
    trace = json.loads(fleet.edgeforge("trace", "show", gru.last_request()["trace_id"], "--json"))
    assert trace["usage_exceeded"]
    assert gru.status()["overclaims"]["iad-1"] >= 1


def test_counts_of_the_own_engine_are_believed(fleet: Fleet, engine: FakeEngineProcess) -> None:
    iad = fleet.agent("iad-1")
    engine.control(tokens=1, claimed_tokens=1_000)
    generate(iad, "/v1/chat/completions")
    last = iad.last_request()
    assert (last["completion_tokens"], last["usage_exceeded"]) == (1_001, False)
