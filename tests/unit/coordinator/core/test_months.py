"""Months of billing: edges in UTC, leap years, and when each may be closed."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core import months
from coordinator.core.months import DAY_MS, ClosePolicy
from protos.domain.errors import InvalidRequest


def test_the_last_millisecond_of_a_month_is_its_own_and_the_next_is_not():
    end = months.month_end_unix_ms("2026-12")
    assert months.month_of(end - 1) == "2026-12"
    assert months.month_of(end) == "2027-01"
    assert months.year_of(end - 1) == 2026
    assert months.year_of(end) == 2027


@pytest.mark.parametrize(
    ("month", "days"), [("2026-02", 28), ("2028-02", 29), ("2100-02", 28), ("2026-12", 31)]
)
def test_months_have_the_days_of_the_calendar(month, days):
    length = months.month_end_unix_ms(month) - months.month_start_unix_ms(month)
    assert length == days * DAY_MS


def test_a_change_of_summer_time_moves_no_edge():
    berlin = ZoneInfo("Europe/Berlin")
    before = datetime(2026, 3, 29, 1, 30, tzinfo=berlin)
    after = before + timedelta(hours=1)
    for local in (before, after, datetime(2026, 4, 1, 1, 59, tzinfo=berlin)):
        assert months.month_of(int(local.timestamp() * 1_000)) == "2026-03"
    april = datetime(2026, 4, 1, 2, 0, tzinfo=berlin)
    assert months.month_of(int(april.timestamp() * 1_000)) == "2026-04"


def test_a_month_is_closed_after_its_grace_and_not_a_millisecond_earlier():
    policy = ClosePolicy(close_day=2, grace_days=3)
    close = months.close_unix_ms("2026-01", policy)
    assert close == months.month_end_unix_ms("2026-01") + 4 * DAY_MS
    assert months.months_to_close("2026-01", close - 1, policy) == []
    assert months.months_to_close("2026-01", close, policy) == ["2026-01"]


def test_months_that_were_missed_are_closed_in_order():
    policy = ClosePolicy()
    now = months.month_start_unix_ms("2027-02") + 10 * DAY_MS
    assert months.months_to_close("2026-11", now, policy) == ["2026-11", "2026-12", "2027-01"]


@pytest.mark.parametrize(
    "text", ["2026-13", "2026-00", "26-01", "2026-1", "1999-01", "\uff12026-01", ""]
)
def test_what_is_no_month_is_refused(text):
    with pytest.raises(InvalidRequest):
        months.check_month(text)


@given(st.integers(0, calendar.timegm((2400, 1, 1, 0, 0, 0)) * 1_000))
def test_the_number_of_a_month_is_that_of_utc(unix_ms):
    moment = datetime.fromtimestamp(unix_ms // 1_000, UTC)
    assert months.month_number_of(unix_ms) == moment.year * 100 + moment.month
    assert months.text_of_month(months.month_number_of(unix_ms)) == months.month_of(unix_ms)


def test_the_edge_of_a_numbered_month_is_its_first_millisecond():
    for number in (202603, 202604, 202610, 202611, 202612):
        began = months.month_number_start_unix_ms(number)
        assert began % DAY_MS == 0
        assert months.month_number_of(began - 1) == number - 1
        assert months.month_number_of(began) == number


def test_numbers_of_months_are_those_of_usage():
    assert months.number_of_month("2026-02") == 202602
    assert months.text_of_month(202602) == "2026-02"
