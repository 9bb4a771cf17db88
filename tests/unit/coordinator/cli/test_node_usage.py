"""What operators are told of a host's records of usage."""

from __future__ import annotations

import pytest

from coordinator.cli.node_usage import usage_of, usage_problem_of
from protos.v1 import admin_pb2, fleet_pb2


def info(**usage: object) -> admin_pb2.NodeInfo:
    return admin_pb2.NodeInfo(
        connected=True,
        last_status_age_s=1.0,
        usage=fleet_pb2.UsageState(**usage),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("usage", "text", "problem"),
    [
        ({}, "counted", ""),
        ({"waiting": 3, "oldest_s": 4}, "3 wait, oldest 4 s", ""),
        ({"waiting": 9, "oldest_s": 7_300}, "9 wait, oldest 2 h", "not counted for 2 h"),
        (
            {"older_spools": 2, "oldest_s": 700, "trouble": "no way"},
            "0 wait, oldest 12 min, 2 earlier spools",
            "no way; not counted for 12 min",
        ),
        (
            {"refused": 5, "quarantined": 1},
            "5 refused, 1 in quarantine",
            "1 files in quarantine on its disk",
        ),
    ],
)
def test_what_waits_is_shown_with_its_age_and_what_is_wrong_is_an_alarm(
    usage: dict[str, object], text: str, problem: str
) -> None:
    told = info(**usage)
    assert (usage_of(told), usage_problem_of(told)) == (text, problem)


def test_an_agent_of_an_earlier_version_is_named_as_not_billed() -> None:
    old = admin_pb2.NodeInfo(connected=True, last_status_age_s=1.0)
    assert usage_of(old) == "none kept"
    assert "not billed" in usage_problem_of(old)


def test_a_node_without_a_status_yet_is_not_accused() -> None:
    for connected in (True, False):
        silent = admin_pb2.NodeInfo(connected=connected, last_status_age_s=-1.0)
        assert (usage_of(silent), usage_problem_of(silent)) == ("-", "")
