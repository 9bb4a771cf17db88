"""A target that is slow, dead, silent or without an end, at each moment of a request.

Cuts, errors and nonsense: ``test_moments.py``; half-open ways: ``test_broken_peers.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient
from tests.support.twins import Twins, generations, twin_fleet
from tests.support.waiting import wait_until

IDLE_MS = 3_000
#: What an agent may hold of one answer, a reader's buffers and this machine's noise beside it.
MEMORY_MB = 256
EITHER_WAY = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
#: The engine that fails is reached over a hop, or is the agent's own.
EVERY_WAY = pytest.mark.parametrize("node", ["gru-1", "iad-1"], ids=["over a hop", "here"])


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """No second copies: what is left is replacement."""
    folder = tmp_path_factory.mktemp("t")
    with twin_fleet(folder, idle_ms=IDLE_MS, hedge_ratio=0.0) as running:
        running.fleet.configure("iad-1", "router", hedge_ratio=0.0)
        yield running


@pytest.fixture(autouse=True)
def healthy(twins: Twins) -> None:
    twins.heal()
    own = twins.fleet.agent("iad-1")
    wait_until(lambda: served_by(own) == "iad-1", 30, "iad-1 to use its own engine")
    twins.iad.forget()


def served_by(agent: AgentClient, *, stream: bool = False) -> str:
    answer = agent.chat(stream=stream)
    return answer.headers.get("x-edgeforge-node", "") if answer.status == 200 else ""


def rss_mb(agent: AgentClient) -> float:
    status = Path(f"/proc/{agent.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1_024


def is_let_go(engine: FakeEngineProcess) -> bool:
    """Whether no request is left at ``engine``."""
    return all(one["state"] != "running" for one in generations(engine))


@EVERY_WAY
def test_a_target_that_accepts_and_says_nothing_makes_way_and_is_let_go(
    twins: Twins, node: str
) -> None:
    twins.iad.control(hang=True)
    assert served_by(twins.fleet.agent(node), stream=True) == "gru-1"
    wait_until(lambda: is_let_go(twins.iad), 30, "the silent engine's request to be aborted")


@EVERY_WAY
@pytest.mark.parametrize("slow", ["head_delay_ms", "first_token_delay_ms"])
def test_a_target_that_is_slow_before_its_first_token_makes_way_for_one_that_is_sooner(
    twins: Twins, node: str, slow: str
) -> None:
    twins.iad.control(**{slow: 60_000})
    agent = twins.fleet.agent(node)
    assert served_by(agent, stream=True) == "gru-1"
    assert [one["node_id"] for one in agent.last_request()["attempts"]] == ["iad-1", "gru-1"]
    wait_until(lambda: is_let_go(twins.iad), 30, "the slow engine's request to be aborted")


@EVERY_WAY
def test_a_target_that_is_slow_after_its_first_token_is_waited_for(twins: Twins, node: str) -> None:
    twins.iad.control(token_delay_ms=IDLE_MS / 6)
    answer = twins.fleet.agent(node).chat(stream=True)
    assert answer.headers["x-edgeforge-node"] == "iad-1"
    assert answer.events()[-1] == "[DONE]"
    assert generations(twins.gru) == []


@EVERY_WAY
@EITHER_WAY
def test_a_target_that_dies_before_its_first_token_is_replaced(
    twins: Twins, node: str, stream: bool
) -> None:
    twins.iad.control(die_after_tokens=0)
    try:
        assert served_by(twins.fleet.agent(node), stream=stream) == "gru-1"
    finally:
        twins.iad.stop()
        twins.iad.start()


@EVERY_WAY
@pytest.mark.parametrize("after", [1, 4, 8])
def test_a_target_that_dies_after_its_first_token_ends_in_an_error_event(
    twins: Twins, node: str, after: int
) -> None:
    twins.iad.control(die_after_tokens=after, token_delay_ms=30)
    try:
        answer = twins.fleet.agent(node).chat(stream=True)
        assert answer.status == 200
        assert "error" in json.loads(answer.events()[-1])
        assert generations(twins.gru) == []
    finally:
        twins.iad.stop()
        twins.iad.start()


@EVERY_WAY
@EITHER_WAY
def test_a_target_that_sends_headers_of_a_megabyte_is_replaced(
    twins: Twins, node: str, stream: bool
) -> None:
    twins.iad.control(long_head_bytes=1_000_000)
    assert served_by(twins.fleet.agent(node), stream=stream) == "gru-1"


@EVERY_WAY
@EITHER_WAY
def test_a_target_that_sends_a_body_that_never_ends_is_replaced_and_memory_stays_bounded(
    twins: Twins, node: str, stream: bool
) -> None:
    twins.iad.control(endless=True)
    agents = twins.fleet.agents()
    before = [rss_mb(agent) for agent in agents]
    assert served_by(twins.fleet.agent(node), stream=stream) == "gru-1"
    wait_until(lambda: is_let_go(twins.iad), 30, "the endless answer to be cut off")
    grown = [rss_mb(agent) - mb for agent, mb in zip(agents, before, strict=True)]
    assert max(grown) < MEMORY_MB, grown
