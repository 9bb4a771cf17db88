"""The benchmark of placement places what an agent places."""

from __future__ import annotations

import random

import pytest

from protos.domain.fleet_view import FleetView, with_changes
from tests.bench.large_fleet import REPLICAS_PER_MODEL, fleet
from tests.bench.router_gateway import BUDGETS_MS, STREAMING, WAITING, Gateway


@pytest.fixture
def gateway():
    chance = random.Random(7)
    return Gateway(with_changes(FleetView(), (), fleet(chance)), chance, 1)


def test_requests_are_placed_among_all_replicas_of_their_model_while_life_goes_on(gateway):
    for request in gateway.requests(60, BUDGETS_MS):
        placement = gateway.place(request)
        assert len(placement.candidates) == REPLICAS_PER_MODEL
        assert placement.chosen.fits
        assert all(each.evidence is not None for each in placement.candidates)
        assert gateway.with_states_ready(request)().chosen.fits
        gateway.go_on(placement)
    assert any(each.state.cached_ratio > 0.0 for each in placement.candidates)
    assert any(each.state.backlog_tokens > 0.0 for each in placement.candidates)
    assert sum(each.state.warm for each in placement.candidates) > 0


def test_requests_that_are_begun_ask_one_target_and_end(gateway):
    begun = []
    for request in gateway.requests(60, BUDGETS_MS):
        machine, (ask,) = gateway.begin(request)
        gateway.answer_others(machine, ask)
        begun.append(machine)
    ended = 60 - WAITING - STREAMING
    assert [machine.over for machine in begun] == [True] * ended + [False] * (60 - ended)
    in_flight = sum(gateway.live.in_flight(node_id) for node_id in gateway._nodes)
    assert in_flight == WAITING + STREAMING
