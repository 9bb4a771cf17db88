"""The fleet's figures against their targets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.core.fleet_metrics import FleetFigures, Metric, metrics_of
from coordinator.core.price_card import default_price_card

FIGURES = FleetFigures(
    paid_requests_week=900_000_000,
    paying_accounts=12,
    first_token_ms_p99=79.0,
    streams=1_000,
    streams_in_time=951,
    cold_start_ms_p99=640.0,
    edge_fill_ratio=0.66,
    revenue_nano_usd=1_100,
    credits_nano_usd=100,
    cost_nano_usd=400,
    pops_without_cost=(),
    cohort_nano_usd={"a": (100, 150), "b": (100, 0), "new": (0, 900)},
    lines=default_price_card(),
)
NOTHING = FleetFigures(0, 0, None, 0, 0, None, None, 0, 0, 0, (), {})


def metric(figures: FleetFigures, name: str) -> Metric:
    (found,) = [one for one in metrics_of(figures) if one.name == name]
    return found


@pytest.mark.parametrize(
    ("name", "value", "met"),
    [
        ("paid_requests_a_week", 900_000_000, True),
        ("paying_accounts", 12, None),
        ("first_token_p99", 79.0, True),
        ("tier_sla_met", 95.1, True),
        ("cold_start_p99", 640.0, False),
        ("edge_utilisation", 66.0, True),
        ("gross_margin", 60.0, None),
        ("net_revenue_retention_30d", 75.0, None),
        ("edge_premium_least", 20.0, True),
        ("edge_premium_most", 20.0, True),
    ],
)
def test_a_figure_by_hand(name, value, met):
    found = metric(FIGURES, name)
    assert found.value == pytest.approx(value)
    assert found.met is met


@pytest.mark.parametrize(
    ("ratio", "met"), [(0.59, False), (0.61, True), (0.79, True), (0.81, False)]
)
def test_edge_is_neither_to_be_idle_nor_full(ratio, met):
    assert metric(replace(FIGURES, edge_fill_ratio=ratio), "edge_utilisation").met is met


def test_a_fleet_of_which_nothing_is_known_has_no_figures_and_misses_no_target():
    by_name = {one.name: one for one in metrics_of(NOTHING)}
    assert by_name["paid_requests_a_week"].value == 0
    for name in ("first_token_p99", "tier_sla_met", "gross_margin", "net_revenue_retention_30d"):
        assert (by_name[name].value, by_name[name].met) == (None, None)


def test_a_margin_without_any_cost_is_not_claimed_and_the_pops_are_named():
    found = metric(
        replace(FIGURES, cost_nano_usd=0, pops_without_cost=[f"P{one}" for one in range(7)]),
        "gross_margin",
    )
    assert found.value is None
    assert "without a cost an hour: P0, P1, P2, P3, P4 and 2 more" in found.note


def test_a_margin_is_not_known_while_one_pop_that_has_served_has_no_cost():
    found = metric(replace(FIGURES, pops_without_cost=["GRU"]), "gross_margin")
    assert found.value is None
    assert "without a cost an hour: GRU" in found.note


def test_retention_is_of_accounts_that_paid_before_and_new_ones_do_not_mend_it():
    found = metric(replace(FIGURES, cohort_nano_usd={"a": (100, 50), "n": (0, 500)}), _NRR)
    assert found.value == pytest.approx(50.0)
    assert "of 1 accounts" in found.note


_NRR = "net_revenue_retention_30d"
