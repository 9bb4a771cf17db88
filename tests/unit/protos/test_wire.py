"""Round trips between messages and domain types."""

from __future__ import annotations

import math

import pytest

from protos import wire
from protos.domain.errors import InvalidRequest
from protos.domain.resources import (
    ModelSource,
    NodeHealth,
    NodeIntent,
    ReplicaState,
    ResourceType,
    SlaTier,
    Tier,
    resource_type,
)
from protos.domain.router import explain
from protos.domain.routing_table import (
    Delta,
    RefusalReason,
    Snapshot,
    TableVersion,
    digest_to_bytes,
    table_of,
)
from protos.v1 import fleet_pb2
from protos.v1 import resources_pb2 as r
from protos.wire import enums
from tests.support.fleets import lookup, request, target, three_tiers
from tests.support.rows import ONE_OF_EACH


@pytest.mark.parametrize("resource", ONE_OF_EACH)
def test_every_resource_survives_its_row(resource):
    payload = wire.encode_row(resource)
    assert wire.decode_row(resource_type(resource), payload) == resource
    assert wire.encode_row(resource) == payload, "equal writes make equal bytes"


@pytest.mark.parametrize("type_", list(ResourceType))
def test_an_unknown_kind_of_row_is_skipped(type_):
    """A newer coordinator's new kind: an unknown field of the oneof, or nothing at all."""
    unknown_field = b"\xfa\x01\x00"
    assert wire.decode_row(type_, unknown_field) is None
    assert wire.decode_row(type_, b"") is None


@pytest.mark.parametrize("type_", list(ResourceType))
def test_bytes_that_are_no_row_are_refused(type_):
    with pytest.raises(InvalidRequest):
        wire.decode_row(type_, b"\xff\xff\xff")


def test_unknown_enum_values_are_refused():
    pop = r.TopologyRow(pop=r.Pop(id="GRU"))
    with pytest.raises(InvalidRequest, match="enum"):
        wire.decode_row(ResourceType.TOPOLOGY, pop.SerializeToString())


@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
@pytest.mark.parametrize("field", ["first_token_ms_p99", "prefill_ms_per_token", "tokens_per_s"])
def test_profiles_unfit_for_predictions_are_refused(field, value):
    with pytest.raises(InvalidRequest, match="profile"):
        wire.profile_from_wire(r.EngineProfile(**{field: value}))


@pytest.mark.parametrize(
    ("domain", "table"),
    [
        (ResourceType, enums.TYPE_TO_WIRE),
        (Tier, enums.TIER_TO_WIRE),
        (NodeHealth, enums.HEALTH_TO_WIRE),
        (NodeIntent, enums.INTENT_TO_WIRE),
        (ModelSource, enums.SOURCE_TO_WIRE),
        (SlaTier, enums.SLA_TO_WIRE),
        (ReplicaState, enums.REPLICA_TO_WIRE),
        (RefusalReason, enums.REFUSAL_TO_WIRE),
    ],
)
def test_every_enum_value_has_a_number_of_its_own(domain, table):
    assert set(table) == set(domain)
    assert len(set(table.values())) == len(table)
    assert 0 not in table.values(), "zero means unspecified"


@pytest.mark.parametrize(
    ("to_wire", "from_wire", "domain"),
    [
        (wire.resource_type_to_wire, wire.resource_type_from_wire, ResourceType),
        (wire.tier_to_wire, wire.tier_from_wire, Tier),
        (wire.replica_state_to_wire, wire.replica_state_from_wire, ReplicaState),
        (wire.model_source_to_wire, wire.model_source_from_wire, ModelSource),
        (wire.refusal_to_wire, wire.refusal_from_wire, RefusalReason),
    ],
)
def test_enums_there_and_back(to_wire, from_wire, domain):
    for value in domain:
        assert from_wire(to_wire(value)) is value
    if domain is RefusalReason:
        assert from_wire(0) is RefusalReason.MALFORMED
        return
    for unknown in (0, 99):
        with pytest.raises(InvalidRequest):
            from_wire(unknown)


ROWS = {"pop/A": b"1", "pop/B": b""}
AT = TableVersion(3, 2**40)


def test_snapshot_there_and_back():
    push = Snapshot(ResourceType.TOPOLOGY, AT, ROWS, 2**255, forced=True)
    message = wire.snapshot_to_wire(push, nonce=9)
    assert message.nonce == 9
    assert wire.snapshot_from_wire(message) == push
    with pytest.raises(InvalidRequest):
        wire.snapshot_from_wire(fleet_pb2.Snapshot())


def test_delta_there_and_back():
    push = Delta(ResourceType.PRICES, 3, 7, 2**40, ROWS, ("pop/C",), 5, forced=False)
    message = wire.delta_to_wire(push, nonce=9)
    assert message.nonce == 9
    assert wire.delta_from_wire(message) == push
    with pytest.raises(InvalidRequest):
        wire.delta_from_wire(fleet_pb2.Delta())


def test_have_names_version_and_digest():
    table = table_of(ResourceType.TOPOLOGY, AT, ROWS)
    have = wire.have_to_wire(table)
    assert (have.epoch, have.version) == (3, 2**40)
    assert have.digest == digest_to_bytes(table.digest)
    assert wire.resource_type_from_wire(have.type) is ResourceType.TOPOLOGY


def test_explanation_keeps_terms_tiers_and_verdicts():
    near = lookup({}, default=target())
    told = explain(three_tiers(), request(), "gru-1", near, draw=0.0, fill=lambda _: 0.4)
    message = wire.explanation_to_wire(told)
    assert message.summary == told.summary
    assert (message.serving_tier, message.billing_tier) == (r.TIER_EDGE, r.TIER_REGIONAL)
    winner = message.candidates[-1]
    assert (winner.node_id, winner.chosen, winner.fits) == ("gru-1", True, True)
    assert sum(term.value_ms for term in winner.terms) == pytest.approx(winner.ttft_ms_p99)
    assert winner.verdict == told.candidates[-1].verdict


def test_explanation_of_a_refusal_has_no_tiers():
    told = explain(three_tiers(), request(budget_left_ms=1.0), "x", lookup({}), draw=0.0,
                   fill=lambda _: 0.0, excluded=frozenset({"gru-1", "scl-1", "iad-1"}))  # fmt: skip
    message = wire.explanation_to_wire(told)
    assert message.serving_tier == r.TIER_UNSPECIFIED
    assert len(message.candidates) == 3
    assert not message.candidates[0].terms
