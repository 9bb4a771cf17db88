"""Facts: named apart from agents' rows, readable when fields have come and gone."""

from __future__ import annotations

import json

from coordinator.store.facts import EnrolledNode, FactType, Manifest, decode_fact, row_type
from protos.domain.resources import ModelFile, ResourceType
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


def test_a_manifest_of_an_earlier_version_is_read_and_pieces_are_kept():
    stored = b'{"files":[["config.json","' + b"ab" * 32 + b'",12]]}'
    old = Manifest("acme/m@1", (ModelFile("config.json", b"\xab" * 32, 12),))
    assert decode_fact(FactType.MANIFEST, "acme/m@1", stored) == old
    assert old.encode() == stored, "files of one piece are written as before"
    new = Manifest("acme/m@1", (ModelFile("w.safetensors", b"s" * 32, 10**9, b"p" * 32),))
    assert decode_fact(FactType.MANIFEST, "acme/m@1", new.encode()) == new
