"""When the coordinator's own certificate is made anew."""

from __future__ import annotations

import pytest

from coordinator.core.server_certificate import RENEWED_AFTER_MS, is_due
from protos.domain.certificates import DAY_MS

NOW = 1_800_000_000_000


@pytest.mark.parametrize(
    ("issued_unix_ms", "due"),
    [
        pytest.param(NOW, False, id="just now"),
        pytest.param(NOW + 30_000, False, id="a clock that was stepped back a little"),
        pytest.param(NOW - 29 * DAY_MS, False, id="weeks ago"),
        pytest.param(NOW - RENEWED_AFTER_MS, True, id="a month ago"),
        pytest.param(NOW + 2 * DAY_MS, True, id="by a clock that was days ahead"),
        pytest.param(NOW + 4_000 * DAY_MS, True, id="by a clock that was years ahead"),
        pytest.param(0, True, id="by a clock without a battery"),
    ],
)
def test_a_certificate_made_under_a_wrong_clock_is_made_anew(
    issued_unix_ms: int, due: bool
) -> None:
    assert is_due(issued_unix_ms, NOW) is due
