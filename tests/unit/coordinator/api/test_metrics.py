from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import generate_latest

from coordinator.api.metrics import USAGE_COUNTERS, make_metrics
from coordinator.core.fleet_figures import FleetCounters, FleetGauges
from coordinator.usage.ingest import IngestCounters

GAUGES = FleetGauges(
    agents_connected=3,
    nodes={"ready": 2, "dead": 1},
    frozen=True,
    unplaced=4,
    peers_unreachable=1,
    twins=1,
    store_available=False,
    usage_available=False,
    epoch=5,
    tables={"topology": (17, 6)},
)


def test_metrics_are_collected_at_each_scrape():
    counters = FleetCounters()
    registry = make_metrics(counters, lambda: GAUGES)
    counters.statuses = 9
    counters.nacks["digest"] = 2
    lines = generate_latest(registry).decode().splitlines()
    for line in (
        "edgeforge_coordinator_statuses_total 9.0",
        'edgeforge_coordinator_push_nacks_total{reason="digest"} 2.0',
        "edgeforge_coordinator_agents_connected 3.0",
        "edgeforge_coordinator_twins 1.0",
        'edgeforge_coordinator_nodes{health="ready"} 2.0',
        'edgeforge_coordinator_nodes{health="suspect"} 0.0',
        "edgeforge_coordinator_fleet_frozen 1.0",
        "edgeforge_coordinator_peers_unreachable 1.0",
        "edgeforge_coordinator_database_available 0.0",
        "edgeforge_coordinator_usage_database_available 0.0",
        'edgeforge_coordinator_table_version{type="topology"} 17.0',
        'edgeforge_coordinator_table_rows{type="topology"} 6.0',
    ):
        assert line in lines


def test_every_metric_has_a_help_text():
    text = generate_latest(make_metrics(FleetCounters(), lambda: GAUGES)).decode()
    named = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    helped = {
        line.split()[2]
        for line in text.splitlines()
        if line.startswith("# HELP") and len(line.split()) > 3
    }
    assert named == helped


def test_every_metric_that_an_alarm_of_the_documentation_names_exists():
    root = Path(__file__).parents[4]
    told = (root / "docs" / "OPERATIONS.md").read_text() + (
        root / "packaging" / "grafana" / "edgeforge.json"
    ).read_text()
    named = set(re.findall(r"edgeforge_coordinator_[a-z_]*[a-z]", told))
    text = generate_latest(make_metrics(FleetCounters(), lambda: GAUGES, IngestCounters())).decode()
    there = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert len(named) > 10
    assert named <= there


def test_every_figure_of_counted_usage_is_a_metric():
    counters = IngestCounters(records=7, conflicts=2)
    text = generate_latest(make_metrics(FleetCounters(), lambda: GAUGES, counters)).decode()
    assert "edgeforge_coordinator_usage_records_total 7.0" in text
    assert "edgeforge_coordinator_usage_conflicts_total 2.0" in text
    assert set(USAGE_COUNTERS) == set(IngestCounters.__dataclass_fields__)
