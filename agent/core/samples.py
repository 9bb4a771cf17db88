"""Protocols by which a part of the agent offers metrics, status and readiness. Pure.

A part implements those that fit it, beside its own state, and is registered once in
``agent.observability.agent_status``. Metric names and status keys are public interfaces: users'
dashboards and scripts depend on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Sample:
    """One metric's value now. ``labels`` are (name, value) pairs, the same names in every sample.

    A counter's name is given without the suffix ``_total``, which the exposition adds.
    """

    name: str
    help: str
    value: float
    counter: bool = False
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class HistogramSample:
    """Observations in each bucket. ``counts`` has one more entry: those over all ``bounds``."""

    name: str
    help: str
    bounds: Sequence[float]
    counts: Sequence[int]
    total: float
    labels: tuple[tuple[str, str], ...] = ()


Samples = Iterable[Sample | HistogramSample]


@runtime_checkable
class MetricSource(Protocol):
    """Offers metrics."""

    def samples(self, now_mono_ms: float, /) -> Samples:
        """Yield the current value of every metric of this part."""


@runtime_checkable
class StatusSource(Protocol):
    """Offers a piece of ``edgeforge-agent status``."""

    def status(self, now_mono_ms: float, /) -> Mapping[str, object]:
        """Return this part's keys, as JSON; objects of the same key are merged across parts."""


@runtime_checkable
class ReadinessSource(Protocol):
    """Can prevent the agent from being ready."""

    def missing(self) -> Iterable[str]:
        """Yield each condition that is not met yet; none when the part is ready."""


def counter_samples(
    prefix: str, counters: object, help_by_field: Mapping[str, str]
) -> Iterable[Sample]:
    """Yield a counter named ``prefix`` + field for each field in ``help_by_field``."""
    for field, text in help_by_field.items():
        yield Sample(f"{prefix}{field}", text, float(getattr(counters, field)), counter=True)
