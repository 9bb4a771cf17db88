"""Five sites at their real distances, as ``edgeforge up`` starts them, in front of fake engines."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.devfleet.distances import round_trip_ms
from coordinator.devfleet.sites import FIVE_SITES
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until

BUDGET = "x-edgeforge-ttft-budget-ms"
#: As the real engines take on an idle machine.
FIRST_TOKEN_DELAY_MS = 80
POPS = {site.node: site.pop for site in FIVE_SITES}


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, FakeEngineProcess]]:
    with (
        FakeEngineProcess("twin") as iad,
        FakeEngineProcess("twin") as gru,
        FakeEngineProcess("twin") as dxb,
    ):
        yield {"iad-1": iad, "gru-1": gru, "dxb-1": dxb}


@pytest.fixture(scope="module")
def fleet(
    engines: dict[str, FakeEngineProcess], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    slow_down(engines)
    urls = [engine.url for engine in engines.values()]
    with Fleet(tmp_path_factory.mktemp("5"), urls, "--sites", "5") as running:
        yield running


@pytest.fixture(autouse=True)
def obedient(engines: dict[str, FakeEngineProcess]) -> None:
    slow_down(engines)


def slow_down(engines: dict[str, FakeEngineProcess]) -> None:
    for engine in engines.values():
        engine.control(first_token_delay_ms=FIRST_TOKEN_DELAY_MS)


def demo(fleet: Fleet) -> list[dict[str, Any]]:
    return list(json.loads(fleet.edgeforge("demo", "--json", state_dir=True)))


def rtts_ms(fleet: Fleet, via: str) -> dict[str, float]:
    """What ``via`` has measured to the others."""
    peers = fleet.agent(via).status()["peers"]
    return {peer["node_id"]: peer["rtt_ms"] for peer in peers if peer["reachable"]}


def test_up_describes_five_agents_with_the_keys_scripts_know(fleet: Fleet) -> None:
    facts = fleet.facts
    assert set(facts) == {"api_key", "coordinator", "agents", "deployments"}
    assert {(agent["node"], agent["pop"], agent["tier"]) for agent in facts["agents"]} == {
        ("gru-1", "GRU", "edge"),
        ("bom-1", "BOM", "edge"),
        ("lag-1", "LAG", "edge"),
        ("dxb-1", "DXB", "regional"),
        ("iad-1", "IAD", "central"),
    }
    for agent in facts["agents"]:
        assert set(agent) == {"node", "pop", "tier", "url", "admin", "pid"}


@pytest.mark.parametrize("via", sorted(POPS))
def test_agents_measure_the_round_trips_of_the_table(fleet: Fleet, via: str) -> None:
    # Who holds no engine is nobody's target, and not probed.
    others = {"iad-1", "gru-1", "dxb-1"} - {via}
    wait_until(lambda: rtts_ms(fleet, via).keys() >= others, 30, f"{via} to reach the others")
    table_ms = {node: round_trip_ms(POPS[via], POPS[node]) for node in others}
    told = rtts_ms(fleet, via)
    assert all(told[node] >= table_ms[node] * 0.99 for node in others), "never shorter"
    # Longer by what a busy machine adds to a probe; medians get over a moment of that.
    near = lambda node: rtts_ms(fleet, via)[node] <= table_ms[node] + 60  # noqa: E731
    wait_until(lambda: all(near(node) for node in others), 60, f"{via} to measure the distances")


def test_every_placement_of_the_demonstration(fleet: Fleet) -> None:
    edge, central, regional, missed = demo(fleet)
    assert (edge["node"], edge["billing_tier"]) == ("gru-1", "edge")
    assert (central["node"], central["billing_tier"]) == ("iad-1", "central")
    assert regional["node"] == "dxb-1"
    assert missed["predicted_miss"]
    assert not any(one["predicted_miss"] for one in (edge, central, regional))
    candidates = missed["explanation"]["candidates"]
    assert not any(one["fits"] for one in candidates)
    fastest = min(candidates, key=lambda one: one["ttft_ms_p99"])
    assert missed["node"] == fastest["node_id"]
    premium = edge["cost_nano_usd"] / central["cost_nano_usd"]
    assert 1.15 <= premium <= 1.25, "edge is sold at 15 to 25 % above central"
    for one in (central, regional, missed):
        via = next(site.pop for site in FIVE_SITES if site.pop.id == one["via"])
        assert one["ttft_ms"] >= round_trip_ms(via, POPS[one["node"]]) + FIRST_TOKEN_DELAY_MS


def test_a_running_fleet_is_not_turned_into_another(fleet: Fleet) -> None:
    with pytest.raises(AssertionError, match="an edge fill of"):
        fleet.edgeforge("up", "--detach", "--edge-fill", "0.7", state_dir=True)
    with pytest.raises(AssertionError, match="5 sites"):
        fleet.edgeforge("up", "--detach", "--sites", "2", state_dir=True)
    assert fleet.up() == fleet.facts


def test_no_byte_between_sites_goes_around_the_relay(fleet: Fleet) -> None:
    bom = fleet.agent("bom-1")
    assert bom.chat(stream=True).status == 200
    for node in ("iad-1", "gru-1", "dxb-1"):
        fleet.break_link("refuse", "bom-1", node)
    try:
        wait_until(lambda: bom.chat(stream=True).status == 503, 30, "BOM to be cut off")
    finally:
        for node in ("iad-1", "gru-1", "dxb-1"):
            fleet.break_link("heal", "bom-1", node)
    wait_until(lambda: bom.chat(stream=True).status == 200, 30, "BOM to be back")


def test_a_relay_that_died_is_started_by_the_next_up_and_nothing_else(fleet: Fleet) -> None:
    pids = {agent.node: agent.pid for agent in fleet.agents()}
    relay = json.loads((fleet.state_dir / "pids" / "relay.json").read_text())["pid"]
    os.kill(relay, signal.SIGKILL)
    fleet.up()
    assert {agent.node: agent.pid for agent in fleet.agents()} == pids
    bom = fleet.agent("bom-1")
    wait_until(lambda: bom.chat(stream=True).status == 200, 30, "BOM to reach the others")


def test_with_edge_fill_the_edge_serves_what_it_has_room_for(
    engines: dict[str, FakeEngineProcess], tmp_path: Path
) -> None:
    urls = [engine.url for engine in engines.values()]
    with Fleet(tmp_path / "f", urls, "--sites", "5", "--edge-fill", "0.7") as filling:
        _, roomy, _, _ = demo(filling)
    assert roomy["budget_ms"] == 2_000
    assert (roomy["node"], roomy["billing_tier"]) == ("gru-1", "central")
