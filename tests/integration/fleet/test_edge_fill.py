"""Edge nodes with room are preferred among what fits; full ones compete by price."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until


@pytest.fixture
def engines() -> Iterator[list[FakeEngineProcess]]:
    with FakeEngineProcess("twin") as central, FakeEngineProcess("twin") as edge:
        yield [central, edge]


@pytest.fixture
def filled_fleet(
    engines: list[FakeEngineProcess],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Fleet]:
    """The same model on IAD and on GRU, edge nodes preferred until they are filled to 70 %."""
    monkeypatch.setenv("EDGEFORGE_AGENT__ROUTER__EDGE_FILL_RATIO", "0.7")
    monkeypatch.setenv("EDGEFORGE_AGENT__ENGINE__TOKENS_PER_S", "10")
    with Fleet(tmp_path_factory.mktemp("e"), [engine.url for engine in engines]) as running:
        yield running


def chosen(fleet: Fleet, via: str) -> str:
    return fleet.chosen("twin", via, 5_000)


def test_an_edge_with_room_serves_at_the_cheapest_tiers_price_until_it_is_filled(
    filled_fleet: Fleet, engines: list[FakeEngineProcess]
) -> None:
    for via in ("gru-1", "iad-1"):
        wait_until(lambda via=via: chosen(filled_fleet, via) == "gru-1", 20, "the edge to be used")
    agent = filled_fleet.agent("gru-1")
    engines[1].control(tokens=200)
    assert agent.chat(stream=True, max_tokens=200).headers["x-edgeforge-node"] == "gru-1"
    record = agent.last_request()
    assert (record["serving_tier"], record["billing_tier"]) == ("edge", "central")
    engines[1].control(tokens=900)
    agent.chat(max_tokens=900)
    for via in ("gru-1", "iad-1"):  # its own count, and what it tells its peers
        wait_until(
            lambda via=via: chosen(filled_fleet, via) == "iad-1",
            20,
            f"price alone to decide at {via}",
        )


def test_peers_requests_fill_a_node_too(
    filled_fleet: Fleet, engines: list[FakeEngineProcess]
) -> None:
    engines[1].control(tokens=1_000)
    wait_until(lambda: chosen(filled_fleet, "iad-1") == "gru-1", 20, "the edge to be used")
    far = filled_fleet.agent("iad-1")
    assert far.chat(stream=True, max_tokens=1_000).headers["x-edgeforge-node"] == "gru-1"
    wait_until(lambda: chosen(filled_fleet, "gru-1") == "iad-1", 20, "the edge to be filled")
