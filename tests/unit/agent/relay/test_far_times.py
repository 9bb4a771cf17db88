"""A peer's own times: read back as they were written, and believed only when they can be times."""

from __future__ import annotations

import pytest

from agent.relay.far_times import far_times_header, read_far_times
from protos.domain.trace import FarTimes


def test_what_was_written_is_read() -> None:
    times = FarTimes(admission_ms=0.25, queue_ms=3.0, engine_ms=81.5)
    assert read_far_times([(b"content-type", b"x"), far_times_header(times)]) == times


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"admission=1;queue=1",
        b"admission=1;queue=x;engine=2",
        b"admission=-1;queue=0;engine=2",
        b"admission=nan;queue=0;engine=2",
        b"admission=inf;queue=0;engine=2",
        b"admission=1;queue=0;engine=1e12",
    ],
)
def test_what_can_be_no_time_is_not_believed(told: bytes) -> None:
    assert read_far_times([(b"x-edgeforge-timing", told)]) is None


def test_silence_is_no_time() -> None:
    assert read_far_times([(b"content-type", b"x")]) is None
