"""Which latencies count in which sketch."""

from coordinator.core.usage_sketches import BUCKET_MS, SketchKind, count_bins, latencies
from tests.support.usage_fleet import NOW_UNIX_MS, record

FIRST_TOKEN, PACE, COLD = (int(kind) for kind in SketchKind)


def test_a_stream_has_a_first_token_and_a_pace():
    stream = record(ttft_us=40_000, stream_us=490_000, completion_tokens=50)
    assert latencies(stream) == [(FIRST_TOKEN, 40_000), (PACE, 100.0)]


def test_what_was_not_streamed_or_had_no_token_has_none():
    assert latencies(record(stream=False)) == []
    assert latencies(record(ttft_us=0)) == []
    assert latencies(record(completion_tokens=1)) == [(FIRST_TOKEN, 40_000)]


def test_a_cold_start_counts_whether_streamed_or_not():
    assert latencies(record(stream=False, cold_path="swap", cold_us=9)) == [(COLD, 9)]


def test_records_count_under_pop_and_account_by_five_minutes():
    records = [record(began_unix_ms=NOW_UNIX_MS + 1, stream_us=0) for _ in range(3)]
    found = count_bins(records, lambda value: 7)
    bucket = NOW_UNIX_MS - NOW_UNIX_MS % BUCKET_MS
    assert found == {
        (bucket, ("pop", "standard", "GRU"), FIRST_TOKEN, 7): 3,
        (bucket, ("account", "standard", "acme"), FIRST_TOKEN, 7): 3,
    }
