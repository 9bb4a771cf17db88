"""The two headers of ours that a client may send."""

from __future__ import annotations

import pytest

from agent.gateway.request_headers import BUDGET, RESIDENCY, parse_budget_ms, parse_zones
from protos.domain.errors import EdgeForgeError, InvalidRequest

YEAR_MS = 365.0 * 86_400_000.0


@pytest.mark.parametrize("given", [b"0", b"-1", b"-0.0", b"nan", b"-inf", b"soon", b"", b"\xff"])
def test_a_budget_that_is_no_time_is_refused(given: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_budget_ms({BUDGET: given}, 150)
    assert caught.value.param == BUDGET.decode()


@pytest.mark.parametrize("given", [b"31536000000", b"inf", b"1e400", b"9" * 400])
def test_a_budget_of_a_year_or_more_is_accepted_as_a_year(given: bytes) -> None:
    assert parse_budget_ms({BUDGET: given}, 150) == YEAR_MS


def test_the_deployments_budget_holds_unless_a_request_says_otherwise() -> None:
    assert parse_budget_ms({}, 150) == 150.0
    assert parse_budget_ms({BUDGET: b"80.5"}, 150) == 80.5
    assert parse_budget_ms({b"x-edgeforge-budget": b"1"}, 150) == 150.0


def test_zones_are_a_set_and_absent_means_no_narrowing() -> None:
    assert parse_zones({}) is None
    assert parse_zones({RESIDENCY: b"US, BR,US"}) == {"US", "BR"}


@pytest.mark.parametrize("given", [b"", b",", b"US,", b"\xff", b"US;BR", b",".join([b"US"] * 65)])
def test_a_residency_that_names_no_zone_never_means_everywhere(given: bytes) -> None:
    with pytest.raises(EdgeForgeError) as caught:
        parse_zones({RESIDENCY: given})
    assert caught.value.http_status == 400
