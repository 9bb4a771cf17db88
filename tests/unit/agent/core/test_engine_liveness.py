"""What counts as an engine's progress, and when its absence is a stall."""

from __future__ import annotations

import math

import pytest

from agent.core.engine_liveness import EngineLiveness

STALL_MS = 120_000.0


@pytest.fixture
def liveness() -> EngineLiveness:
    return EngineLiveness(STALL_MS)


def test_a_process_that_has_just_started_has_no_evidence(liveness: EngineLiveness) -> None:
    assert liveness.progress_mono_ms == -math.inf
    assert liveness.stalls_at_ms == -math.inf


def test_only_later_evidence_is_progress(liveness: EngineLiveness) -> None:
    assert liveness.progressed(1_000.0)
    assert not liveness.progressed(1_000.0)
    assert not liveness.progressed(999.0)
    assert liveness.stalls_at_ms == 1_000.0 + STALL_MS


def test_the_first_reading_is_no_progress_but_starts_the_time_anew(
    liveness: EngineLiveness,
) -> None:
    """The movement of the counters before it is unknown."""
    liveness.progressed(0.0)
    assert not liveness.read((b"tokens 7",), 20_000.0)
    assert liveness.progress_mono_ms == 0.0
    assert liveness.stalls_at_ms == 20_000.0 + STALL_MS
    assert not liveness.read((b"tokens 7",), 40_000.0)
    assert liveness.stalls_at_ms == 20_000.0 + STALL_MS, "a second one does not"


def test_counters_that_change_in_either_direction_are_progress(liveness: EngineLiveness) -> None:
    liveness.read((b"running 8", b"tokens 7"), 0.0)
    assert liveness.read((b"running 9", b"tokens 7"), 15_000.0)
    assert liveness.counters_moved_last
    assert liveness.read((b"running 8", b"tokens 7"), 30_000.0)
    assert liveness.stalls_at_ms == 30_000.0 + STALL_MS
    liveness.progressed(31_000.0)
    assert not liveness.counters_moved_last


def test_a_failed_reading_changes_nothing(liveness: EngineLiveness) -> None:
    liveness.progressed(0.0)
    assert not liveness.read(None, 20_000.0)
    assert liveness.stalls_at_ms == STALL_MS
    liveness.read((b"tokens 7",), 30_000.0)
    assert not liveness.read(None, 40_000.0)
    assert not liveness.read((b"tokens 7",), 50_000.0)


def test_a_reading_from_before_the_latest_progress_is_not_compared(
    liveness: EngineLiveness,
) -> None:
    """The counters moved for tokens that are known already: no progress since."""
    liveness.read((b"tokens 7",), 0.0)
    liveness.progressed(60_000.0)
    assert not liveness.read((b"tokens 900",), 80_000.0)
    assert liveness.progress_mono_ms == 60_000.0


def test_another_process_begins_without_evidence(liveness: EngineLiveness) -> None:
    liveness.progressed(1_000.0)
    liveness.read((b"tokens 7",), 2_000.0)
    liveness.forget()
    assert liveness.stalls_at_ms == -math.inf
    assert not liveness.read((b"tokens 0",), 3_000.0)
