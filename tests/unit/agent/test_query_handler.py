from __future__ import annotations

from typing import Any, cast

import pytest

from agent.query_handler import QueryHandler
from protos.domain.errors import NoReplica
from protos.v1 import fleet_pb2


def handler(**fields: Any) -> QueryHandler:
    parts = dict.fromkeys(("state", "gpu", "traces", "peers", "now_mono_ms"))
    return QueryHandler(**cast(Any, parts | fields))


@pytest.mark.parametrize(("adapter", "name"), [("", "acme/m@1"), ("acme/lora@1", "acme/lora@1")])
def test_a_canary_of_what_no_engine_here_serves_is_refused_by_its_name(adapter, name):
    asked = []

    def endpoint_for(model: str, of: str) -> None:
        asked.append((model, of))

    query = fleet_pb2.Query(canary=fleet_pb2.CanaryQuery(model="acme/m@1", adapter=adapter))
    with pytest.raises(NoReplica, match=f"serves no '{name}' now"):
        handler(endpoint_for=endpoint_for).answer(query).send(None)
    assert asked == [("acme/m@1", adapter)]


def test_a_question_of_a_newer_coordinator_is_answered_as_such():
    with pytest.raises(StopIteration) as ended:
        handler(endpoint_for=None).answer(fleet_pb2.Query()).send(None)
    assert ended.value.value.error == "this agent is too old for the question"
