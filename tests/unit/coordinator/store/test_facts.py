"""Facts: named apart from agents' rows, readable when fields have come and gone."""

from __future__ import annotations

import json

from coordinator.store.facts import EnrolledNode, FactType, decode_fact, row_type
from protos.domain.resources import ResourceType
from tests.support.stores import PROFILE


def test_no_fact_is_taken_for_a_row_that_agents_are_sent():
    assert {one.value for one in FactType}.isdisjoint(one.value for one in ResourceType)
    for one in (*FactType, *ResourceType):
        assert row_type(one.value) is one


def test_a_profile_of_an_earlier_or_later_version_is_read():
    node = EnrolledNode("gru-1", "GRU", 1, "vllm", "0.1.0", PROFILE)
    stored = json.loads(node.encode())
    del stored["profile"]["context_tokens"]
    stored["profile"]["later"] = 3
    assert decode_fact(FactType.NODE, "gru-1", json.dumps(stored).encode()) == node
