"""Drain, cordon, retire and resume, as an operator orders them and as clients meet them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until

#: The cheaper of the two: every request goes there unless an order keeps it away.
CHEAP, OTHER = "iad-1", "gru-1"


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The same model on two nodes."""
    folder = tmp_path_factory.mktemp("o")
    with (
        FakeEngineProcess("twin") as first,
        FakeEngineProcess("twin") as second,
        Fleet(folder, [first.url, second.url]) as running,
    ):
        yield running


@pytest.fixture(autouse=True)
def all_serve(twins: Fleet) -> Iterator[None]:
    yield
    twins.edgeforge("node", "resume", CHEAP)
    wait_until(lambda: served_by(twins, OTHER) == CHEAP, 20, "the cheap one to serve again")


def served_by(fleet: Fleet, via: str) -> str:
    answer = fleet.agent(via).chat()
    return answer.headers.get("x-edgeforge-node", "") if answer.status == 200 else ""


def shown(fleet: Fleet, node: str = CHEAP) -> dict[str, Any]:
    return fleet.node_info(node)


def test_a_drained_node_serves_nothing_new_and_its_own_clients_are_served_elsewhere(twins: Fleet):
    wait_until(lambda: served_by(twins, OTHER) == CHEAP, 20, "the cheap one to serve")
    twins.edgeforge("node", "drain", CHEAP, "--reason", "new fans")
    for via in (OTHER, CHEAP):
        wait_until(lambda via=via: served_by(twins, via) == OTHER, 30, f"{via} to place elsewhere")
    # The operator's name is the installation's own; the reason is what was said.
    assert shown(twins)["node"]["intent_reason"].endswith(": new fans")
    status = twins.agent(CHEAP).status()
    assert status["draining_reason"].endswith(": new fans")
    assert not status["ready"]


def test_a_cordoned_node_serves_on(twins: Fleet):
    twins.edgeforge("node", "cordon", CHEAP)
    wait_until(
        lambda: shown(twins)["node"]["intent"] == "NODE_INTENT_CORDONED", 30, "the cordon to show"
    )
    assert served_by(twins, OTHER) == CHEAP


def test_a_retired_nodes_pin_moves_no_request_fails_and_it_holds_nothing_in_the_end(twins: Fleet):
    retired = json.loads(twins.edgeforge("node", "retire", CHEAP, "--timeout-s", "40", "--json"))
    assert retired["order"]["phase"] == "retired"
    assert [move["node_id"] for move in retired["order"]["moves"]] == [OTHER]
    assert served_by(twins, CHEAP) == OTHER
    wait_until(lambda: shown(twins)["replicas"] == [], 30, "the retired node to hold nothing")
    (deployment,) = json.loads(twins.edgeforge("deployment", "ls", "--json"))
    assert deployment["node_ids"] == [OTHER]
    # Pins stay where they went: the operator says where the model goes back to.
    twins.edgeforge("node", "resume", CHEAP)
    twins.edgeforge("deployment", "set", twins.model, "--node", CHEAP, "--node", OTHER)
