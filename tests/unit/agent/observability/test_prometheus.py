"""Plain counters as Prometheus reads them."""

from __future__ import annotations

from prometheus_client import generate_latest

from agent.core.samples import HistogramSample, Sample
from agent.observability.prometheus import make_registry


def test_a_histogram_is_cumulative_with_everything_under_its_last_bound() -> None:
    labels = (("sla", "realtime"),)
    sample = HistogramSample("ef_took_seconds", "How long.", (0.1, 0.5), (2, 0, 1), 0.9, labels)
    page = generate_latest(make_registry(lambda: [sample])).decode()
    for line in (
        'ef_took_seconds_bucket{le="0.1",sla="realtime"} 2.0',
        'ef_took_seconds_bucket{le="0.5",sla="realtime"} 2.0',
        'ef_took_seconds_bucket{le="+Inf",sla="realtime"} 3.0',
        'ef_took_seconds_count{sla="realtime"} 3.0',
        'ef_took_seconds_sum{sla="realtime"} 0.9',
    ):
        assert line in page


def test_samples_of_one_name_are_one_family() -> None:
    both = [
        Sample("ef_seen", "Seen.", 1.0, counter=True, labels=(("kind", kind),)) for kind in "ab"
    ]
    page = generate_latest(make_registry(lambda: both)).decode()
    assert page.count("# TYPE ef_seen_total counter") == 1
    assert 'ef_seen_total{kind="a"} 1.0' in page
    assert 'ef_seen_total{kind="b"} 1.0' in page
