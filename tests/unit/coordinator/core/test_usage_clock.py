"""When requests are believed to have begun, whatever an agent's clock says."""

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.usage_clock import MAX_AHEAD_MS, MAX_DISORDER_MS, believed, believed_minute
from tests.support.usage_fleet import DAY_MS, HOUR_MS, MINUTE_MS, NOW_UNIX_MS, record

NEWEST = NOW_UNIX_MS - MINUTE_MS


def test_a_time_in_order_is_believed():
    found = believed(record(began_unix_ms=NOW_UNIX_MS - 5_000), NOW_UNIX_MS, NEWEST)
    assert found == (NOW_UNIX_MS - 5_000, False, NOW_UNIX_MS - 5_000 + 940)


def test_a_clock_a_year_ahead_counts_at_the_arrival_and_moves_no_bound():
    found = believed(record(began_unix_ms=NOW_UNIX_MS + 365 * DAY_MS), NOW_UNIX_MS, NEWEST)
    assert found == (NOW_UNIX_MS, True, NEWEST)


def test_a_clock_an_hour_back_counts_at_the_end_of_what_came_before():
    found = believed(record(began_unix_ms=NOW_UNIX_MS - HOUR_MS), NOW_UNIX_MS, NEWEST)
    assert found == (NEWEST, True, NEWEST)


def test_an_agent_that_was_cut_off_for_a_week_is_believed():
    newest = NOW_UNIX_MS - 7 * DAY_MS
    for back in range(7, 0, -1):
        began = NOW_UNIX_MS - back * DAY_MS
        found = believed(record(began_unix_ms=began), NOW_UNIX_MS, newest)
        assert found[:2] == (began, False)
        newest = found.newest_unix_ms


def test_a_long_request_that_ends_in_order_is_believed():
    began = NOW_UNIX_MS - 2 * HOUR_MS
    long = record(began_unix_ms=began, ttft_us=1_000_000, stream_us=7_190_000_000)
    assert believed(long, NOW_UNIX_MS, NEWEST)[:2] == (began, False)


@given(
    st.integers(-(2**50), 2**50),
    st.integers(0, 2**45),
    st.integers(0, NOW_UNIX_MS),
)
def test_no_time_is_believed_that_is_impossible(began: int, stream_us: int, newest: int):
    told = record(began_unix_ms=began, stream_us=stream_us)
    found = believed(told, NOW_UNIX_MS, newest)
    assert found.began_unix_ms <= NOW_UNIX_MS + MAX_AHEAD_MS
    assert newest <= found.newest_unix_ms <= NOW_UNIX_MS
    if not found.suspect:
        assert found.began_unix_ms == began
        assert began + stream_us // 1_000 >= newest - MAX_DISORDER_MS - 1_000 * HOUR_MS


def test_sums_are_counted_at_their_minute_and_move_the_bound():
    minute = NOW_UNIX_MS - 2 * MINUTE_MS
    assert believed_minute(minute, NOW_UNIX_MS, minute - HOUR_MS) == (minute, minute)
    assert believed_minute(NEWEST - HOUR_MS, NOW_UNIX_MS, NEWEST) == (NEWEST - HOUR_MS, NEWEST)


def test_sums_of_another_year_are_counted_at_the_latest_of_their_spool():
    for minute in (0, NEWEST - 365 * DAY_MS, NOW_UNIX_MS + DAY_MS):
        assert believed_minute(minute, NOW_UNIX_MS, NEWEST) == (NEWEST, NEWEST)
    assert believed_minute(0, NOW_UNIX_MS, NEWEST + 7)[0] == NEWEST
