"""Lines of the SLA report, grouped three ways."""

from __future__ import annotations

import pytest

from coordinator.core.sla_report import UNKNOWN_REGION, By, grouping, sla_lines
from protos.domain.resources import CardTerms
from protos.domain.usage_record import UsageSums

TERMS = CardTerms(1, promise_percent=95)
ZONES = {"GRU": "BR", "SCL": "BR", "IAD": "US"}
ROWS = [
    (("realtime", "GRU"), UsageSums(requests=10, streams=10, streams_in_time=10, shed=1)),
    (("realtime", "SCL"), UsageSums(requests=10, streams=10, streams_in_time=8)),
    (("realtime", "IAD"), UsageSums(requests=5, streams=0, predicted_misses=2)),
    (("standard", "GONE"), UsageSums(requests=1)),
]


def region_of(pop_id: str) -> str:
    return ZONES.get(pop_id, UNKNOWN_REGION)


def lines(by: By):
    group_of = grouping(by, region_of)
    first = {group_of("realtime", "GRU"): (40_000.0, 79_500.0)}
    pace = {group_of("realtime", "GRU"): (50.0, 12.0)}
    return sla_lines(ROWS, group_of, first, pace, TERMS)


def test_pops_of_a_region_are_one_line():
    found = {(one.sla_tier, one.region): one for one in lines(By.REGION)}
    assert list(found) == [("realtime", "BR"), ("realtime", "US"), ("standard", UNKNOWN_REGION)]
    brazil = found["realtime", "BR"]
    assert (brazil.sums.requests, brazil.sums.streams_in_time, brazil.sums.shed) == (20, 18, 1)
    assert (brazil.first_token_ms_p50, brazil.first_token_ms_p99) == (40.0, 79.5)
    assert (brazil.tokens_per_s_p50, brazil.tokens_per_s_p1) == (50.0, 12.0)
    assert not brazil.kept


def test_a_line_without_a_stream_has_no_quantiles_and_kept_its_promise():
    america = lines(By.REGION)[1]
    assert (america.first_token_ms_p99, america.tokens_per_s_p1) == (None, None)
    assert america.kept


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        (By.TIER, [("realtime", "", ""), ("standard", "", "")]),
        (By.ACCOUNT, [("realtime", "", name) for name in ("GRU", "IAD", "SCL")]),
    ],
)
def test_lines_are_by_what_was_asked_for(by, groups):
    found = [(one.sla_tier, one.region, one.account) for one in lines(by)]
    assert found[: len(groups)] == groups
    assert sum(one.sums.requests for one in lines(by)) == 26
