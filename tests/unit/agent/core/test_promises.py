"""Counters by SLA tier: what counts as shed, and the bucket of a first token."""

from __future__ import annotations

import pytest

from agent.core.promises import (
    FIRST_TOKEN_BOUNDS_MS,
    UNKNOWN_SLA,
    Promises,
    PromisesBySla,
    Shed,
    shed_by,
)
from protos.domain.errors import (
    BudgetUnreachable,
    EdgeForgeError,
    EngineFailed,
    InvalidRequest,
    NoReplica,
    Overloaded,
)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BudgetUnreachable("x"), Shed.BUDGET),
        (Overloaded("x"), Shed.OVERLOADED),
        (NoReplica("x", code="draining"), Shed.NO_REPLICA),
        (InvalidRequest("x"), None),
        (EngineFailed("x"), None),
    ],
)
def test_refusals_of_valid_requests_are_shed_and_mistakes_and_failures_are_not(
    error: EdgeForgeError, reason: Shed | None
) -> None:
    assert shed_by(error) is reason


@pytest.mark.parametrize(
    ("felt_ms", "bucket", "late"),
    [(0.0, 0, 0), (80.0, 4, 0), (80.1, 5, 1), (1e9, len(FIRST_TOKEN_BOUNDS_MS), 1)],
)
def test_a_first_token_at_a_bound_is_within_it_and_one_at_its_budget_is_not_late(
    felt_ms: float, bucket: int, late: int
) -> None:
    promises = Promises()
    promises.first_token(felt_ms, 80.0)
    assert promises.buckets[bucket] == sum(promises.buckets) == 1
    assert (promises.late, promises.first_token_ms_sum) == (late, felt_ms)


def test_the_budgets_that_are_sold_are_bounds() -> None:
    assert {80.0, 150.0, 200.0, 300.0, 1_000.0} <= set(FIRST_TOKEN_BOUNDS_MS)
    assert list(FIRST_TOKEN_BOUNDS_MS) == sorted(set(FIRST_TOKEN_BOUNDS_MS))


def test_a_request_without_a_deployment_counts_for_the_unknown_tier() -> None:
    tiers = PromisesBySla()
    tiers.of("").shed[Shed.OVERLOADED] += 1
    tiers.of("realtime").admitted += 1
    assert {sla: (of.admitted, sum(of.shed.values())) for sla, of in tiers.items()} == {
        "realtime": (1, 0),
        "interactive": (0, 0),
        "standard": (0, 0),
        UNKNOWN_SLA: (0, 1),
    }
