"""A jump in either direction is detected once; slewing and passing time are no jumps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.core.clock_watch import JUMP_MS, SLEW_RATIO, ClockWatch

UNIX_MS = 1_700_000_000_000.0
HOUR_MS = 3_600_000.0

steps = st.lists(
    st.tuples(
        st.floats(min_value=0.0, max_value=10 * HOUR_MS),
        st.floats(min_value=-10 * HOUR_MS, max_value=10 * HOUR_MS),
    ),
    max_size=20,
)


def test_an_hour_forward_and_back_are_two_jumps() -> None:
    watch = ClockWatch()
    assert watch.read(UNIX_MS, 0.0) == 0
    assert watch.read(UNIX_MS + HOUR_MS + 5.0, 5.0) == 1
    assert watch.read(UNIX_MS + HOUR_MS + 9.0, 9.0) == 1
    assert watch.read(UNIX_MS + 20.0, 20.0) == 2


def test_slewing_over_a_quiet_day_is_no_jump() -> None:
    watch = ClockWatch()
    watch.read(UNIX_MS, 0.0)
    passed_ms = 24 * HOUR_MS
    assert watch.read(UNIX_MS + passed_ms * (1 + 500e-6), passed_ms) == 0


@given(steps)
def test_every_reading_counts_the_movement_since_the_last_one(
    moves: list[tuple[float, float]],
) -> None:
    watch = ClockWatch()
    unix_ms, mono_ms, jumps = UNIX_MS, 0.0, 0
    watch.read(unix_ms, mono_ms)
    for passed_ms, moved_ms in moves:
        unix_ms += passed_ms + moved_ms
        mono_ms += passed_ms
        bound_ms = JUMP_MS + SLEW_RATIO * passed_ms
        if abs(abs(moved_ms) - bound_ms) < 1.0:
            return  # too close to the bound for floating point
        jumps += abs(moved_ms) > bound_ms
        assert watch.read(unix_ms, mono_ms) == jumps
