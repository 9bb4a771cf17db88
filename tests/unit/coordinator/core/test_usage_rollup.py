"""The month that bills what a record adds."""

from coordinator.core.months import month_number_start_unix_ms
from coordinator.core.usage_rollup import booked_month


def test_what_began_in_a_closed_month_is_booked_in_the_first_open_one() -> None:
    december = month_number_start_unix_ms(202612)
    assert booked_month(december - 1, december) == 202612
    assert booked_month(december - 1, 0) == 202611
    assert booked_month(december + 40 * 86_400_000, december) == 202701
