"""A node that dies, and a node that only some cannot reach: who serves, and what the table says."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.devfleet.delay_config import Listener
from tests.support.delay_relay import DelayRelayProcess
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Fleet
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

LEASE_S = 8.0


@pytest.fixture
def engines() -> Iterator[list[FakeEngineProcess]]:
    """Of IAD, of GRU, and of a second node in IAD."""
    with (
        FakeEngineProcess("twin") as first,
        FakeEngineProcess("twin") as second,
        FakeEngineProcess("twin") as third,
    ):
        yield [first, second, third]


@pytest.fixture
def fleet(
    engines: list[FakeEngineProcess],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Fleet]:
    """Three engines; health is judged several times as fast as usual."""
    monkeypatch.setenv("EDGEFORGE_COORDINATOR__HEALTH__STATUS_INTERVAL_MS", "500")
    monkeypatch.setenv("EDGEFORGE_COORDINATOR__HEALTH__LEASE_MS", str(int(LEASE_S * 1_000)))
    monkeypatch.setenv("EDGEFORGE_AGENT__COORDINATOR__STATUS_INTERVAL_MS", "500")
    monkeypatch.setenv("EDGEFORGE_AGENT__PEER__PROBE_INTERVAL_MS", "500")
    monkeypatch.setenv("EDGEFORGE_AGENT__PEER__PROBE_TIMEOUT_MS", "1000")
    with Fleet(tmp_path_factory.mktemp("n"), [engine.url for engine in engines]) as running:
        yield running


def candidates(fleet: Fleet, via: str) -> dict[str, dict[str, object]]:
    return {str(one["node_id"]): one for one in fleet.explain("twin", via)}


def usable(fleet: Fleet, via: str, node: str) -> bool:
    """Whether an agent would place a request on ``node``, if not now then by chance."""
    one = candidates(fleet, via).get(node)
    return one is not None and not one.get("rejected")


def streams_of(
    agent: AgentClient, count: int, stack: contextlib.ExitStack
) -> list[http.client.HTTPResponse]:
    """Open streams and leave them running until ``stack`` closes."""
    opened = []
    for _ in range(count):
        connection = stack.enter_context(contextlib.closing(agent.connect(60.0)))
        body = {"model": agent.model, "messages": [], "stream": True}
        headers = {"authorization": f"Bearer {agent.api_key}"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        opened.append(stack.enter_context(contextlib.closing(response)))
    return opened


def test_a_node_that_dies_under_streams_costs_those_only_and_is_dead_at_its_leases_end(
    fleet: Fleet, engines: list[FakeEngineProcess]
) -> None:
    for engine in engines:
        engine.control(hold_after_tokens=3)
    with contextlib.ExitStack() as stack:
        _lose_one_under_streams(fleet, engines, stack)


def _lose_one_under_streams(
    fleet: Fleet, engines: list[FakeEngineProcess], stack: contextlib.ExitStack
) -> None:
    gru = fleet.agent("gru-1")
    streams = streams_of(gru, 8, stack)
    by_node: dict[str | None, list[http.client.HTTPResponse]] = {}
    for stream in streams:
        by_node.setdefault(stream.getheader("x-edgeforge-node"), []).append(stream)
    victim = max((node for node in by_node if node != "gru-1"), key=lambda n: len(by_node[n]))
    fleet.kill(victim)
    for stream in by_node.pop(victim):
        last = [line for line in stream.read().decode().splitlines() if line.startswith("data: ")]
        assert "error" in json.loads(last[-1].removeprefix("data: "))
    for engine in engines:
        engine.control()
    for _ in range(10):
        answer = gru.chat()
        assert answer.status == 200
        assert answer.headers["x-edgeforge-node"] != victim
    wait_until(lambda: fleet.health(victim) in ("unroutable", "dead"), 30, "it to be unroutable")
    wait_until(lambda: fleet.health(victim) == "dead", 30, "it to be dead")
    for others in by_node.values():
        for stream in others:
            assert "data: [DONE]" in stream.read().decode()


def test_a_killed_node_is_unroutable_long_before_it_is_missed(
    engines: list[FakeEngineProcess],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its stream ends with it, and a peer cannot reach it: within a probe and a status, 3 s."""
    monkeypatch.setenv("EDGEFORGE_COORDINATOR__HEALTH__SUSPECT_AFTER_MISSES", "50")
    monkeypatch.setenv("EDGEFORGE_COORDINATOR__HEALTH__LEASE_MS", "300000")
    with Fleet(tmp_path / "n", [engine.url for engine in engines]) as fleet:
        wait_until(lambda: usable(fleet, "gru-1", "iad-2"), 20, "iad-2 to be a candidate")
        fleet.kill("iad-2")
        wait_until(lambda: fleet.health("iad-2") == "unroutable", 30, "it to be unroutable")


def test_a_one_way_partition_moves_only_those_it_concerns(fleet: Fleet, tmp_path: Path) -> None:
    gru_address, other_address = "127.9.1.2", "127.9.1.3"
    (port,) = free_ports(1)
    with DelayRelayProcess(
        tmp_path,
        sources={gru_address: "gru-1", other_address: "iad-2"},
        round_trips_ms={"gru-1": {"iad-1": 20.0}, "iad-2": {"iad-1": 1.0}},
        listeners=[Listener("iad-1", port, fleet.peer_port("iad-1"))],
    ) as relay:
        fleet.configure("iad-1", "peer", advertise_port=port)
        fleet.configure("gru-1", "peer", source_address=gru_address)
        fleet.configure("iad-2", "peer", source_address=other_address)
        for via in ("gru-1", "iad-2"):
            wait_until(
                lambda via=via: _reaches(fleet.agent(via), "iad-1"), 30, f"{via} to reach iad-1"
            )
        relay.fault("one-way", "gru-1", "iad-1")
        gru = fleet.agent("gru-1")
        wait_until(lambda: not _reaches(gru, "iad-1"), 30, "gru-1 to notice")
        for _ in range(10):
            answer = gru.chat(stream=True)
            assert answer.status == 200
            assert answer.headers["x-edgeforge-node"] != "iad-1"
        assert fleet.health("iad-1") == "ready", "one who cannot reach it removes it for nobody"
        assert _reaches(fleet.agent("iad-2"), "iad-1")
        assert usable(fleet, "iad-2", "iad-1")
        relay.fault("heal", "gru-1", "iad-1")
        wait_until(lambda: _reaches(gru, "iad-1"), 30, "gru-1 to reach it again")
        wait_until(lambda: usable(fleet, "gru-1", "iad-1"), 30, "it to be used again")


def _reaches(agent: AgentClient, node: str) -> bool:
    peers = {peer["node_id"]: peer["reachable"] for peer in agent.status()["peers"]}
    return bool(peers.get(node))
