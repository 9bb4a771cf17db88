"""Prometheus metrics made of plain counters when somebody looks; nothing is paid per token."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class Sample:
    """One number now. ``labels`` are (name, value) pairs, the same names for every sample."""

    name: str
    help: str
    value: float
    counter: bool = False
    labels: tuple[tuple[str, str], ...] = ()


class _PlainCounters(Collector):
    def __init__(self, read: Callable[[], Iterable[Sample]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for sample in self._read():
            family = families.get(sample.name)
            if family is None:
                kind = CounterMetricFamily if sample.counter else GaugeMetricFamily
                names = [name for name, _ in sample.labels]
                family = families[sample.name] = kind(sample.name, sample.help, labels=names)
            family.add_metric([value for _, value in sample.labels], sample.value)  # type: ignore[attr-defined]
        return families.values()


def make_registry(read: Callable[[], Iterable[Sample]]) -> CollectorRegistry:
    """Return a registry that shows ``read``'s samples beside the process's own."""
    registry = CollectorRegistry()
    registry.register(_PlainCounters(read))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
