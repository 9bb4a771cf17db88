"""Why a node takes no new requests, and which of it the coordinator is told."""

from __future__ import annotations

import pytest

from agent.drain_state import DrainState, OpenEngines
from protos.domain.fleet_view import FleetView
from protos.domain.resources import NodeIntent
from tests.support import fleets


def fleet(intent: NodeIntent | None = NodeIntent.ACTIVE) -> FleetView:
    """A fleet in which gru-1 has ``intent``, or is not."""
    nodes = [fleets.node("iad-1", "IAD")]
    if intent is not None:
        nodes.append(fleets.node("gru-1", "GRU", intent=intent))
    return fleets.view(fleets.pop("GRU"), fleets.pop("IAD"), *nodes)


@pytest.fixture
def standing() -> DrainState:
    one = DrainState("gru-1")
    one.look_at(fleet())
    return one


def test_a_node_serves_until_there_is_a_reason_not_to(standing: DrainState) -> None:
    assert not standing.draining


def test_what_the_table_says_is_obeyed_but_never_reported_back(standing: DrainState) -> None:
    standing.look_at(fleet(NodeIntent.DRAINING))
    assert standing.draining
    assert standing.own_reason == ""
    standing.look_at(fleet())
    assert not standing.draining


def test_a_drain_by_the_hosts_operator_is_reported_and_ends_with_his_word(
    standing: DrainState,
) -> None:
    standing.by_operator = True
    assert standing.own_reason
    standing.look_at(fleet(NodeIntent.DRAINING))
    standing.by_operator = False
    assert standing.own_reason == ""
    assert standing.draining, "until the table follows"
    standing.look_at(fleet())
    assert not standing.draining


def test_a_stop_is_reported(standing: DrainState) -> None:
    standing.stopping = True
    assert "stopping" in standing.own_reason


def test_a_node_that_left_the_table_takes_nothing_and_an_empty_table_says_nothing(
    standing: DrainState,
) -> None:
    standing.look_at(fleet(None))
    assert standing.draining
    standing.look_at(FleetView())
    assert not standing.draining


def test_a_cordoned_node_goes_on_serving(standing: DrainState) -> None:
    standing.look_at(fleet(NodeIntent.CORDONED))
    assert not standing.draining


def test_listeners_hear_of_changes(standing: DrainState) -> None:
    heard: list[bool] = []
    standing.on_change(heard.append)
    standing.by_operator = True
    standing.by_operator = False
    assert heard == [True, False]


def test_bad_health_drains_and_is_reported_but_turns_no_client_away(standing: DrainState) -> None:
    heard: list[bool] = []
    standing.on_change(heard.append)
    standing.by_health = "GPU 0 is lost"
    assert standing.reason == standing.own_reason == "GPU 0 is lost"
    standing.look_at(fleet(NodeIntent.DRAINING))
    assert heard == [False, False]
    standing.by_health = ""
    assert standing.draining, "the fleet's order stands"


def test_a_draining_nodes_engine_is_closed_to_the_gateway(standing: DrainState) -> None:
    class Engines:
        def endpoint_for(self, model: str) -> str:
            return model

    engines = OpenEngines(Engines(), standing)  # type: ignore[arg-type]
    assert engines.endpoint_for("small") == "small"
    standing.by_health = "GPU 0 is lost"
    assert engines.endpoint_for("small") is None
