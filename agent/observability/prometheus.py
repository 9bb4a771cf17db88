"""Prometheus exposition of the parts' samples, gathered at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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

from agent.core.samples import HistogramSample, Sample, Samples


class _SampleCollector(Collector):
    def __init__(self, read: Callable[[], Samples]) -> None:
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


def make_registry(read: Callable[[], Samples]) -> CollectorRegistry:
    """Return a registry of ``read``'s samples and the process's own metrics."""
    registry = CollectorRegistry()
    registry.register(_SampleCollector(read))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
