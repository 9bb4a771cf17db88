"""Sums by minute and the month that bills them."""

import calendar
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.usage_rollup import booked_month, month_began_unix_ms, month_of

_LAST_UNIX_MS = calendar.timegm((2400, 1, 1, 0, 0, 0)) * 1_000


@given(st.integers(0, _LAST_UNIX_MS))
def test_a_month_is_that_of_utc(unix_ms: int) -> None:
    moment = datetime.fromtimestamp(unix_ms // 1_000, UTC)
    assert month_of(unix_ms) == moment.year * 100 + moment.month


def test_the_edge_of_a_month_is_its_first_millisecond() -> None:
    began = month_began_unix_ms(202612)
    assert month_of(began - 1) == 202611
    assert month_of(began) == 202612


def test_a_change_of_summer_time_moves_no_edge() -> None:
    for month in (202603, 202604, 202610, 202611):
        began = month_began_unix_ms(month)
        assert began % 86_400_000 == 0
        assert month_of(began) == month


def test_what_began_in_a_closed_month_is_booked_in_the_first_open_one() -> None:
    december = month_began_unix_ms(202612)
    assert booked_month(december - 1, december) == 202612
    assert booked_month(december - 1, 0) == 202611
    assert booked_month(december + 40 * 86_400_000, december) == 202701
