"""Why a node takes no new requests, and which of the reasons the coordinator gets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.cold_start import ColdPath, ColdWay
from agent.core.engine_status import EngineEndpoint
from agent.drain_state import DrainState, OpenEngines
from protos.domain.fleet_view import FleetView
from protos.domain.resources import NodeIntent, Residency
from tests.support import fleets
from tests.support.fleets import MODEL
from tests.support.residents import StandInResidents

ENDPOINT = EngineEndpoint(
    "small", None, "127.0.0.1", 8000, tls=False, supports_continuous_usage=True
)

FR = "acme/fr@1"


def fleet(intent: NodeIntent | None = NodeIntent.ACTIVE, reason: str = "") -> FleetView:
    """A fleet in which gru-1 has ``intent``, or is not."""
    nodes = [fleets.node("iad-1", "IAD")]
    if intent is not None:
        node = fleets.node("gru-1", "GRU", intent=intent)
        nodes.append(replace(node, intent_reason=reason))
    return fleets.view(fleets.pop("GRU"), fleets.pop("IAD"), *nodes)


@pytest.fixture
def drain_state() -> DrainState:
    one = DrainState("gru-1")
    one.on_view_changed(fleet())
    return one


def test_a_node_serves_until_there_is_a_reason_not_to(drain_state: DrainState) -> None:
    assert not drain_state.draining


def test_what_the_table_says_is_obeyed_but_never_reported_back(drain_state: DrainState) -> None:
    drain_state.on_view_changed(fleet(NodeIntent.DRAINING))
    assert drain_state.draining
    assert drain_state.own_reason == ""
    drain_state.on_view_changed(fleet())
    assert not drain_state.draining


def test_a_drain_by_the_hosts_operator_is_reported_and_ends_with_his_word(
    drain_state: DrainState,
) -> None:
    drain_state.by_operator = True
    assert drain_state.own_reason
    drain_state.on_view_changed(fleet(NodeIntent.DRAINING))
    drain_state.by_operator = False
    assert drain_state.own_reason == ""
    assert drain_state.draining, "until the table follows"
    drain_state.on_view_changed(fleet())
    assert not drain_state.draining


@pytest.mark.parametrize("reason", ["by_operator", "by_health"])
def test_a_host_that_is_resumed_while_the_coordinator_is_away_takes_requests(
    drain_state: DrainState, reason: str
) -> None:
    setattr(drain_state, reason, "GPU 0 is lost" if reason == "by_health" else True)
    drain_state.on_view_changed(fleet(NodeIntent.DRAINING, drain_state.own_reason))
    setattr(drain_state, reason, "" if reason == "by_health" else False)
    assert not drain_state.draining, drain_state.reason


def test_a_host_that_was_stopped_takes_requests_once_restarted_whatever_its_table_repeats(
    drain_state: DrainState,
) -> None:
    drain_state.stopping = True
    repeated = fleet(NodeIntent.DRAINING, drain_state.own_reason)
    restarted = DrainState("gru-1")
    restarted.on_view_changed(repeated)
    assert not restarted.draining


def test_an_order_and_a_fault_of_before_a_restart_drain_still(drain_state: DrainState) -> None:
    drain_state.on_view_changed(fleet(NodeIntent.DRAINING, "GPU 0 is lost"))
    assert drain_state.draining
    drain_state.by_health = "GPU 0 is lost"
    drain_state.by_health = ""
    drain_state.on_view_changed(fleet(NodeIntent.DRAINING, "drained by ana: disk"))
    assert drain_state.reason == "drained by ana: disk"


def test_a_removed_node_refuses_clients_and_peers_until_it_is_admitted_again(
    drain_state: DrainState,
) -> None:
    told: list[bool] = []
    drain_state.on_change(told.append)
    drain_state.out_of_fleet = "node/gru-1 has been removed"
    assert drain_state.draining, "peers are refused"
    assert drain_state.refuses_clients
    assert "removed from the fleet" in " ".join(drain_state.missing())
    assert drain_state.own_reason == "", "the coordinator knows"
    drain_state.on_view_changed(fleet())
    assert drain_state.refuses_clients, "its old table still names it"
    drain_state.out_of_fleet = ""
    assert not drain_state.draining
    assert told == [True, True, False]


def test_a_stop_is_reported(drain_state: DrainState) -> None:
    drain_state.stopping = True
    assert "stopping" in drain_state.own_reason


def test_a_node_that_left_the_table_takes_nothing_and_an_empty_table_says_nothing(
    drain_state: DrainState,
) -> None:
    drain_state.on_view_changed(fleet(None))
    assert drain_state.draining
    drain_state.on_view_changed(FleetView())
    assert not drain_state.draining


def test_a_cordoned_node_goes_on_serving(drain_state: DrainState) -> None:
    drain_state.on_view_changed(fleet(NodeIntent.CORDONED))
    assert not drain_state.draining


def test_listeners_hear_of_changes(drain_state: DrainState) -> None:
    heard: list[bool] = []
    drain_state.on_change(heard.append)
    drain_state.by_operator = True
    drain_state.by_operator = False
    assert heard == [True, False]


def test_bad_health_drains_and_is_reported_but_refuses_no_client(
    drain_state: DrainState,
) -> None:
    heard: list[bool] = []
    drain_state.on_change(heard.append)
    drain_state.by_health = "GPU 0 is lost"
    assert drain_state.reason == drain_state.own_reason == "GPU 0 is lost"
    drain_state.on_view_changed(fleet(NodeIntent.DRAINING))
    assert heard == [False, False]
    drain_state.by_health = ""
    assert drain_state.draining, "the fleet's order stands"


def test_a_draining_nodes_engine_is_closed_to_the_gateway(drain_state: DrainState) -> None:
    residents = StandInResidents(ways={FR: ColdWay(ColdPath.ADAPTER, Residency.DISK)})
    engines = OpenEngines(residents, drain_state)
    assert engines.is_resident(MODEL)
    assert engines.cold_way(MODEL, FR) == ColdWay(ColdPath.ADAPTER, Residency.DISK)
    assert engines.cold_way("acme/other@1") is None
    drain_state.by_health = "GPU 0 is lost"
    assert engines.endpoint_for(MODEL) is None
    assert engines.enter(MODEL) is None
    assert engines.cold_way(MODEL, FR) is None


def test_what_a_request_has_entered_is_kept_until_it_leaves(drain_state: DrainState) -> None:
    residents = StandInResidents()
    engines = OpenEngines(residents, drain_state)
    endpoint = engines.enter(MODEL)
    assert endpoint is not None
    assert residents.entered[MODEL] == 1
    engines.leave(endpoint)
    assert residents.entered[MODEL] == 0
