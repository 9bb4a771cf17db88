"""Demand follows reports slowly, is bounded, and decays when a node is silent."""

from __future__ import annotations

import math

import pytest

from coordinator.core.demand import (
    HALF_LIFE_MS,
    MAX_DEPLOYMENTS,
    MAX_NODE_PER_MINUTE,
    MAX_PER_MINUTE,
    SILENT_MS,
    DemandTable,
)

POPS = {"gru-1": "GRU", "gru-2": "GRU", "iad-1": "IAD"}
KNOWN = {"chat", "code"}


def settled(*told: tuple[str, list[tuple[str, float]]]) -> DemandTable:
    """Reports that have stood for long."""
    table = DemandTable()
    for step in range(100):
        for node_id, demand in told:
            table.heard(node_id, demand, step * 20_000.0)
    return table


def by_pop(table: DemandTable, at_mono_ms: float = 99 * 20_000.0):
    return table.by_pop(POPS, KNOWN, at_mono_ms)


def test_the_nodes_of_a_pop_are_summed():
    table = settled(
        ("gru-1", [("chat", 6.0)]),
        ("gru-2", [("chat", 4.0), ("code", 1.0)]),
        ("iad-1", [("chat", 2.0)]),
    )
    assert by_pop(table) == {("GRU", "chat"): 10.0, ("GRU", "code"): 1.0, ("IAD", "chat"): 2.0}


def test_half_of_a_change_is_believed_after_the_half_life():
    table = DemandTable()
    for at in range(0, int(HALF_LIFE_MS) + 1, 10_000):
        table.heard("gru-1", [("chat", 100.0)], float(at))
    assert by_pop(table, HALF_LIFE_MS)["GRU", "chat"] == 50.0


def test_a_silent_node_is_not_asked_any_more():
    table = settled(("gru-1", [("chat", 8.0)]))
    at = 99 * 20_000.0 + SILENT_MS + 1.0
    for _ in range(60):
        at += HALF_LIFE_MS
        by_pop(table, at)
    assert by_pop(table, at) == {}


def test_what_does_not_exist_is_not_counted():
    assert by_pop(settled(("gru-1", [("none", 5.0)]), ("strange-1", [("chat", 5.0)]))) == {}


@pytest.mark.parametrize("value", [math.nan, math.inf, -5.0, 0.0])
def test_what_is_no_rate_is_not_believed(value):
    found = by_pop(settled(("gru-1", [("chat", value)])))
    assert found.get(("GRU", "chat"), 0.0) <= MAX_PER_MINUTE
    assert not math.isnan(sum(found.values()))
    assert value == math.inf or found == {}


def test_a_boast_is_bounded_for_one_deployment_and_for_all():
    assert by_pop(settled(("gru-1", [("chat", 1e300)])))["GRU", "chat"] == MAX_PER_MINUTE
    table = settled(("gru-1", [(f"d{number}", 1e9) for number in range(100)] + [("chat", 1e9)]))
    assert by_pop(table)["GRU", "chat"] <= MAX_NODE_PER_MINUTE / 100


def test_only_the_most_asked_for_are_kept():
    table = settled(("gru-1", [(f"d{number}", 2.0) for number in range(5_000)] + [("chat", 1.0)]))
    assert by_pop(table) == {}
    assert len(table._nodes["gru-1"].figures) <= MAX_DEPLOYMENTS


def test_a_removed_node_is_forgotten():
    table = settled(("gru-1", [("chat", 8.0)]))
    table.keep_only(())
    assert by_pop(table) == {}
