"""Prometheus metrics, collected at each scrape from counters and gauges kept elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from protos.domain.resources import NodeHealth

if TYPE_CHECKING:
    from coordinator.core.fleet_figures import FleetCounters, FleetGauges
    from coordinator.usage.ingest import IngestCounters

#: Field of FleetCounters -> name and help text.
COUNTERS = {
    "streams_opened": ("agent_streams_opened", "Agent streams accepted"),
    "streams_refused": ("agent_streams_refused", "Agent streams refused at their Hello"),
    "streams_replaced": ("agent_streams_replaced", "Streams ended by a newer one of their node"),
    "statuses": ("statuses", "Status reports received"),
    "snapshots_sent": ("snapshots_sent", "Whole tables sent to agents"),
    "deltas_sent": ("deltas_sent", "Table differences sent to agents"),
    "push_bytes": ("push_bytes", "Bytes of snapshots and deltas sent"),
    "pushes_serialised": ("pushes_serialised", "Times that table rows were turned into bytes"),
    "acks": ("push_acks", "Pushes that agents acknowledged"),
    "push_timeouts": ("push_timeouts", "Streams ended because a push was not answered"),
    "questions": ("questions", "Questions sent to agents"),
    "questions_failed": ("questions_failed", "Questions to agents without an answer"),
    "blob_bytes": ("blob_bytes", "Bytes of model files sent to nodes"),
    "blobs_refused": ("blobs_refused", "Requests for model files refused"),
    "blobs_collected": ("blobs_collected", "Blobs deleted because no manifest named them"),
    "collected_bytes": (
        "blob_bytes_collected",
        "Bytes of blobs and of unfinished uploads deleted by the collection",
    ),
    "handshakes_refused": ("handshakes_refused", "TLS clients without a valid certificate"),
    "alarms": ("alarms", "Conditions that an operator should look at"),
    "unordered_replicas": ("unordered_replicas", "Replicas reported by nodes without an order"),
    "passes_deferred": ("passes_deferred", "Supervisor passes that the database refused"),
}
#: Field of IngestCounters -> help text.
USAGE_COUNTERS = {
    "batches": "Batches of usage records that agents sent",
    "records": "Usage records counted",
    "duplicates": "Usage records that were counted before",
    "quarantined": "Usage records and sums that were not believed, or were damaged or missing",
    "conflicts": "Usage records that differ from what was counted under their number",
    "clock_suspect": "Usage records counted at another time than their agent said",
    "refused": "Batches of usage refused, such as behind a gap",
    "commits": "Transactions that batches shared",
}
#: Fields of FleetCounters that have a label; collected separately below.
LABELLED = frozenset({"nacks"})

_PREFIX = "edgeforge_coordinator_"


def make_metrics(
    counters: FleetCounters,
    gauges: Callable[[], FleetGauges],
    usage: IngestCounters | None = None,
) -> CollectorRegistry:
    """Return a registry of the coordinator's own figures and those of its process."""
    registry = CollectorRegistry()
    registry.register(_FleetCollector(counters, gauges))
    if usage is not None:
        registry.register(_UsageCollector(usage))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class _UsageCollector(Collector):
    def __init__(self, counters: IngestCounters) -> None:
        self._counters = counters

    def collect(self) -> Iterable[Metric]:
        for field, text in USAGE_COUNTERS.items():
            name = f"{_PREFIX}usage_{field}"
            yield CounterMetricFamily(name, text, value=getattr(self._counters, field))


class _FleetCollector(Collector):
    def __init__(self, counters: FleetCounters, gauges: Callable[[], FleetGauges]) -> None:
        self._counters = counters
        self._gauges = gauges

    def describe(self) -> Iterable[Metric]:
        """Return nothing: collecting at registration would need the fleet already."""
        return ()

    def collect(self) -> Iterable[Metric]:
        for field, (name, text) in COUNTERS.items():
            yield CounterMetricFamily(_PREFIX + name, text, value=getattr(self._counters, field))
        nacks = CounterMetricFamily(
            _PREFIX + "push_nacks", "Pushes that agents refused, by reason", labels=["reason"]
        )
        for reason, count in sorted(self._counters.nacks.items()):
            nacks.add_metric([str(reason)], count)
        yield nacks
        yield from self._collect_gauges(self._gauges())

    def _collect_gauges(self, now: FleetGauges) -> Iterable[Metric]:
        yield _gauge("agents_connected", "Agents with a stream", now.agents_connected)
        nodes = GaugeMetricFamily(_PREFIX + "nodes", "Listed nodes by health", labels=["health"])
        for health in NodeHealth:
            nodes.add_metric([health], now.nodes.get(health, 0))
        yield nodes
        yield _gauge(
            "fleet_frozen", "1 while no node is given up because too many vanished", now.frozen
        )
        yield _gauge("unplaced", "Placements that no engine can hold now", now.unplaced)
        yield _gauge(
            "peers_unreachable",
            "Listed nodes whose peer address another node could not dial",
            now.peers_unreachable,
        )
        yield _gauge("twins", "Nodes whose identity a second host uses", now.twins)
        yield _gauge(
            "database_available", "1 while the database can be written", now.store_available
        )
        yield _gauge(
            "usage_database_available",
            "1 while the usage database can be written",
            now.usage_available,
        )
        yield _gauge("epoch", "Epoch of every table; raised by a restore", now.epoch)
        versions = GaugeMetricFamily(
            _PREFIX + "table_version", "Version of each shared table", labels=["type"]
        )
        rows = GaugeMetricFamily(
            _PREFIX + "table_rows", "Rows of each shared table", labels=["type"]
        )
        for resource_type, (version, count) in now.tables.items():
            versions.add_metric([resource_type], version)
            rows.add_metric([resource_type], count)
        yield versions
        yield rows


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, text, value=value)
