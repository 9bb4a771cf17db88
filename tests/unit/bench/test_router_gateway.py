"""The benchmark of placement places what an agent places."""

from __future__ import annotations

import random

from protos.domain.fleet_view import FleetView, with_changes
from tests.bench.large_fleet import REPLICAS_PER_MODEL, fleet
from tests.bench.router_gateway import BUDGETS_MS, Gateway


def test_requests_are_placed_among_all_replicas_of_their_model_while_life_goes_on():
    chance = random.Random(7)
    gateway = Gateway(with_changes(FleetView(), (), fleet(chance)), chance, 1)
    for placing in gateway.requests(60, BUDGETS_MS):
        placement = placing.attempt()
        assert len(placement.candidates) == REPLICAS_PER_MODEL
        assert placement.chosen.fits
        assert all(each.evidence is not None for each in placement.candidates)
        assert gateway.with_states_ready(placing)().chosen.fits
        gateway.go_on(placement)
    assert any(each.state.cached_ratio > 0.0 for each in placement.candidates)
    assert any(each.state.backlog_tokens > 0.0 for each in placement.candidates)
    assert sum(each.state.warm for each in placement.candidates) > 0
