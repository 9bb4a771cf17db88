"""Two counts of one answer: equal, or reported."""

from __future__ import annotations

import pytest

from agent.core.served_comparison import LOG_EVERY_MS, ServedComparison
from protos.domain.pricing import Usage

COUNTED = Usage(10, 4, 20)


def test_equal_counts_are_no_news() -> None:
    comparison = ServedComparison()
    assert comparison.compare("far", "t", COUNTED, Usage(10, 4, 20), 0.0) is None
    assert comparison.status(0.0)["counts_compared"] == {"agreed": 1, "differed": 0, "nodes": {}}


@pytest.mark.parametrize("served", [Usage(11, 4, 20), Usage(10, 3, 20), Usage(10, 4, 19)])
def test_any_difference_is_reported_with_its_node_and_request(served: Usage) -> None:
    comparison = ServedComparison()
    found = comparison.compare("far", "t7", COUNTED, served, 0.0)
    assert found is not None
    assert (found.trace_id, found.billed_tokens) == ("t7", 30)
    told = comparison.status(0.0)["counts_compared"]
    assert told["differed"] == 1
    assert told["nodes"]["far"]["trace_id"] == "t7"
    counted = {dict(one.labels)["result"]: one.value for one in comparison.samples(0.0)}
    assert counted == {"agreed": 0.0, "differed": 1.0}


def test_a_node_that_always_differs_is_logged_once_a_minute_and_counted_each_time() -> None:
    comparison = ServedComparison()
    lie = Usage(10, 4, 21)
    logged = [comparison.compare("far", "t", COUNTED, lie, ms) for ms in (0.0, 1.0, LOG_EVERY_MS)]
    assert [one is not None for one in logged] == [True, False, True]
    assert comparison.status(0.0)["counts_compared"]["nodes"]["far"]["answers"] == 3


def test_nodes_that_differ_are_bounded_and_the_oldest_is_dropped() -> None:
    comparison = ServedComparison(max_nodes=2)
    for node_id in ("a", "b", "a", "c"):
        comparison.compare(node_id, "t", COUNTED, Usage(0, 0, 0), 0.0)
    assert list(comparison.status(0.0)["counts_compared"]["nodes"]) == ["a", "c"]
