"""Prometheus metrics made of plain counters when somebody looks; nothing is paid per token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


@dataclass(frozen=True, slots=True)
class Sample:
    """One number now. ``labels`` are (name, value) pairs, the same names for every sample."""

    name: str
    help: str
    value: float
    counter: bool = False
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class HistogramSample:
    """How often a value fell under each bound. ``counts`` has one more: over all bounds."""

    name: str
    help: str
    bounds: Sequence[float]
    counts: Sequence[int]
    total: float
    labels: tuple[tuple[str, str], ...] = ()


class _PlainCounters(Collector):
    def __init__(self, read: Callable[[], Iterable[Sample | HistogramSample]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for sample in self._read():
            family = families.get(sample.name)
            if family is None:
                family = families[sample.name] = _family_of(sample)
            values = [value for _, value in sample.labels]
            if isinstance(sample, HistogramSample):
                bounds = [*map(floatToGoString, sample.bounds), "+Inf"]
                buckets = list(zip(bounds, accumulate(sample.counts), strict=True))
                family.add_metric(values, buckets, sample.total)  # type: ignore[attr-defined]
            else:
                family.add_metric(values, sample.value)  # type: ignore[attr-defined]
        return families.values()


def _family_of(sample: Sample | HistogramSample) -> Metric:
    names = [name for name, _ in sample.labels]
    if isinstance(sample, HistogramSample):
        return HistogramMetricFamily(sample.name, sample.help, labels=names)
    kind = CounterMetricFamily if sample.counter else GaugeMetricFamily
    return kind(sample.name, sample.help, labels=names)


def make_registry(read: Callable[[], Iterable[Sample | HistogramSample]]) -> CollectorRegistry:
    """Return a registry that shows ``read``'s samples beside the process's own."""
    registry = CollectorRegistry()
    registry.register(_PlainCounters(read))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
