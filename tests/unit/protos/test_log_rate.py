"""Lines of a log that strangers cause."""

from __future__ import annotations

from protos.domain.log_rate import MAX_LINES, LogRate


def test_a_flood_of_one_kind_writes_a_few_lines_a_minute_and_says_how_many_were_left_out() -> None:
    rate = LogRate()
    written = [rate.take("refused", 0.0) for _ in range(1_000)]
    assert [one for one in written if one is not None] == [0] * MAX_LINES
    assert rate.take("refused", 59_999.0) is None
    assert rate.take("refused", 60_000.0) == 1_001 - MAX_LINES
    assert rate.take("refused", 60_001.0) == 0


def test_another_kind_has_lines_of_its_own() -> None:
    rate = LogRate(max_lines=1)
    assert rate.take("one", 0.0) == 0
    assert rate.take("one", 0.0) is None
    assert rate.take("other kind", 0.0) == 0


def test_kinds_are_limited() -> None:
    rate = LogRate(max_lines=1)
    written = [rate.take(str(number), 0.0) for number in range(1_000)]
    assert sum(one is not None for one in written) <= 65
