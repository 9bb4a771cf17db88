"""Metrics, status and readiness that a part offers."""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.samples import MetricSource, ReadinessSource, StatusSource, counter_samples


@dataclass
class Counters:
    """Two counters, of which one is a metric."""

    seen: int = 3
    internal: int = 4


def test_counters_are_named_by_prefix_and_field_and_only_those_with_a_help_text() -> None:
    (sample,) = counter_samples("ef_", Counters(), {"seen": "Seen."})
    assert (sample.name, sample.help, sample.value) == ("ef_seen", "Seen.", 3.0)
    assert sample.counter
    assert sample.labels == ()


def test_an_object_offers_what_its_protocols_name() -> None:
    class Metrics:
        def samples(self, _now_mono_ms: float) -> tuple[()]:
            return ()

    assert isinstance(Metrics(), MetricSource)
    assert not isinstance(Metrics(), StatusSource | ReadinessSource)
