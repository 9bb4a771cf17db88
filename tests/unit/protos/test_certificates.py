"""Lives of certificates, as both sides know them."""

from __future__ import annotations

from protos.domain.certificates import BACKDATED_MS, DAY_MS, NODE_LIFE_MS, node_issued_unix_ms


def test_the_issue_of_a_nodes_certificate_follows_from_its_end() -> None:
    assert node_issued_unix_ms(NODE_LIFE_MS + 5) == 5


def test_a_clock_wrong_by_a_month_makes_no_certificate_that_is_not_valid_yet() -> None:
    assert BACKDATED_MS > 31 * DAY_MS
    assert BACKDATED_MS > NODE_LIFE_MS
