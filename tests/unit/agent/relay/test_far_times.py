"""A peer's own times: read back as they were written, and believed only when they can be times."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.cold_start import ColdPath, ColdStart, ColdWay
from agent.relay.far_times import (
    cold_start_header,
    far_times_header,
    read_cold_start,
    read_far_times,
    read_stale,
    way_header,
)
from protos.domain.resources import Residency
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


def test_the_wait_for_a_load_is_told_only_where_there_was_one() -> None:
    times = FarTimes(0.25, 3.0, 81.5, 640.0)
    assert read_far_times([far_times_header(times)]) == times
    assert b"load" not in far_times_header(replace(times, load_ms=0.0))[1]


COLD = ColdStart(ColdPath.ADAPTER, Residency.PEER, 1_800_000, 640.5, 300.25)


@pytest.mark.parametrize("began", [True, False])
def test_a_cold_start_that_was_written_is_read(began: bool) -> None:
    assert read_cold_start([cold_start_header(COLD, began=began)]) == (COLD, began)
    assert read_cold_start([(b"content-type", b"x")]) is None


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"way=adapter/peer",
        b"way=adapter/moon;bytes=1;took=2;pull=1;began=1",
        b"way=adapter/peer;bytes=-1;took=2;pull=1;began=1",
        b"way=adapter/peer;bytes=9999999999999999;took=2;pull=1;began=1",
        b"way=adapter/peer;bytes=1;took=2;pull=3;began=1",
        b"way=adapter/peer;bytes=1;took=nan;pull=0;began=1",
        b"way=adapter/peer;bytes=1;took=1e12;pull=0;began=1",
        b"way=adapter/peer;bytes=1;took=x;pull=0;began=1",
        b"way=adapter/peer;bytes=1;took=2;pull=1;began=1;" + b"x" * 300,
    ],
)
def test_what_can_be_no_cold_start_is_not_believed(told: bytes) -> None:
    assert read_cold_start([(b"x-edgeforge-cold-start", told)]) is None


@pytest.mark.parametrize("way", [COLD.way, None])
def test_a_refusal_of_what_is_not_there_says_how_it_would_be_loaded(way: ColdWay | None) -> None:
    assert read_stale([way_header(way)]) == (True, way)
    assert read_stale([(b"content-type", b"x")]) == (False, None)
    assert read_stale([(b"x-edgeforge-way", b"nonsense" * 100)]) == (True, None)
