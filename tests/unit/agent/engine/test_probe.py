"""What is read of an engine's own counters."""

from __future__ import annotations

from agent.engine.probe import progress_counters

#: As vLLM 0.32 prints it, shortened.
PAGE = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 8.0
vllm:num_requests_waiting{engine="0",model_name="m"} 9.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:generation_tokens_total{engine="0",model_name="m"} 17.0
vllm:generation_tokens_created{engine="0",model_name="m"} 1.7e+09
vllm:iteration_tokens_total_bucket{engine="0",le="1.0",model_name="m"} 3.0
vllm:iteration_tokens_total_count{engine="0",model_name="m"} 5.0
http_requests_total{handler="/metrics",method="GET",status="2xx"} 4.0
process_cpu_seconds_total 12.5
"""


def test_the_counters_that_a_step_of_the_scheduler_changes_are_read_and_no_other() -> None:
    counters = progress_counters(PAGE)
    assert counters is not None
    assert [line.partition(b"{")[0] for line in counters] == [
        b"vllm:num_requests_running",
        b"vllm:num_requests_waiting",
        b"vllm:kv_cache_usage_perc",
        b"vllm:generation_tokens_total",
        b"vllm:iteration_tokens_total_count",
    ]


def test_what_changes_with_each_look_at_it_is_no_progress() -> None:
    later = PAGE.replace(b'"2xx"} 4.0', b'"2xx"} 5.0').replace(b"12.5", b"12.6")
    assert progress_counters(later) == progress_counters(PAGE)


def test_a_step_of_a_prefill_in_chunks_is_progress() -> None:
    """No token is counted before its last chunk; the cache in use grows with each."""
    assert progress_counters(PAGE.replace(b"0.25", b"0.26")) != progress_counters(PAGE)


def test_another_servers_page_has_none() -> None:
    for page in (b"", b"sglang:gen_throughput 12.0\n", b"<html>", b"\xff\xfe{\n{}\n \n"):
        assert progress_counters(page) is None
