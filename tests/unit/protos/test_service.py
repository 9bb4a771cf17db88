"""Service levels: latency always with the share that was shed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.domain.service import service_of

times = st.lists(st.floats(min_value=0.0, max_value=1e6), max_size=300)


def test_a_latency_is_shown_with_the_share_that_was_shed() -> None:
    said = str(service_of([float(ms) for ms in range(1, 101)], admitted=190, shed=10))
    assert said == (
        "first token P50 50.0 ms, P99 99.0 ms over 100 streams; 10 of 200 requests shed (5.0%)"
    )


@pytest.mark.parametrize(
    ("admitted", "shed", "said"),
    [
        (0, 0, "no requests yet"),
        (3, 0, "no first token; 0 of 3 requests shed (0.0%)"),
        (0, 3, "no first token; 3 of 3 requests shed (100.0%)"),
    ],
)
def test_without_a_first_token_the_share_that_was_shed_is_still_shown(
    admitted: int, shed: int, said: str
) -> None:
    assert str(service_of([], admitted=admitted, shed=shed)) == said


@given(times, st.integers(0, 1_000))
def test_quantiles_are_of_the_given_times_and_in_order(first_tokens_ms: list[float], shed: int):
    service = service_of(first_tokens_ms, admitted=len(first_tokens_ms), shed=shed)
    assert 0.0 <= service.shed_ratio <= 1.0
    assert service.ttft_ms_p50 <= service.ttft_ms_p99
    if first_tokens_ms:
        assert service.ttft_ms_p99 in first_tokens_ms
        over = sum(ms > service.ttft_ms_p99 for ms in first_tokens_ms)
        assert over <= len(first_tokens_ms) / 100
