"""Outside its zones a trace has counts and times, and neither names nor texts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.traces.withholding import lines_for, trace_for
from protos.domain.trace import TraceColdStart
from protos.v1 import trace_pb2
from protos.wire import summary_to_wire, trace_from_wire, trace_to_wire
from tests.support.traces import trace as make_trace

SECRETS = (b"acme", b"secret-deployment", b"secret/model@1", b"secret-text", b"secret-id")
BOUND = replace(
    make_trace(),
    account="acme",
    deployment="secret-deployment",
    model="secret/model@1",
    error="secret-text",
    client_request_id="secret-id",
    cold_start=TraceColdStart("swap", "disk", 1, 2.0, 0.0),
    zones=("BR",),
)


def test_in_its_zone_a_trace_is_whole():
    whole = trace_to_wire(BOUND)
    assert trace_for("BR", whole) == whole
    assert trace_from_wire(whole).zones == ("BR",)


@pytest.mark.parametrize("zone", ["", "US"])
def test_elsewhere_it_has_no_name_and_no_text(zone):
    whole = trace_to_wire(BOUND)
    for attempt in whole.attempts:
        attempt.detail = "secret-text"
    found = trace_for(zone, whole)
    assert found.withheld
    data = found.SerializeToString()
    assert not [secret for secret in SECRETS if secret in data]
    shown = trace_from_wire(found)
    assert (shown.trace_id, shown.status, shown.zones) == (
        BOUND.trace_id,
        BOUND.status,
        ("BR",),
    )
    assert shown.usage == BOUND.usage
    assert shown.token_gaps_us == ()
    assert shown.cold_start is None
    assert all(not one.candidates and not one.detail for one in shown.attempts)


def test_what_is_not_bound_is_whole_everywhere_and_what_is_not_there_is_nothing():
    free = trace_to_wire(replace(BOUND, zones=()))
    assert trace_for("", free) == free
    assert trace_for("US", None) is None


def test_a_list_shows_bound_traces_without_their_deployment_and_not_in_that_of_one():
    lines = [summary_to_wire(BOUND), summary_to_wire(replace(BOUND, zones=()))]
    bound, free = lines_for("US", lines, trace_pb2.TraceFilter())
    assert (bound.deployment, bound.withheld) == ("", True)
    assert (free.deployment, free.withheld) == ("secret-deployment", False)
    of_one = trace_pb2.TraceFilter(deployment="secret-deployment")
    assert lines_for("US", lines, of_one) == [lines[1]]
    assert lines_for("BR", lines, of_one) == lines
