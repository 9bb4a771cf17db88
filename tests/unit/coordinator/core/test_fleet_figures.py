from __future__ import annotations

from dataclasses import fields

from coordinator.api.metrics import COUNTERS, LABELLED
from coordinator.core.fleet_figures import FleetCounters


def test_every_counter_is_shown():
    assert {field.name for field in fields(FleetCounters)} == COUNTERS.keys() | LABELLED


def test_two_instances_have_separate_counters():
    one, two = FleetCounters(), FleetCounters()
    one.nacks["gap"] = 1
    one.statuses += 1
    assert (two.nacks, two.statuses) == ({}, 0)
