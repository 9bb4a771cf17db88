from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.push_session import Holding
from coordinator.rpc.fleet_messages import (
    MAX_PEERS,
    MAX_REPLICAS,
    agent_message,
    holdings_of,
    nacked_of,
    printable,
    reachable_of,
    registration_of,
    reports_of,
)
from protos.domain.errors import InvalidRequest
from protos.domain.resources import ReplicaState, ResourceType
from protos.domain.routing_table import RefusalReason, TableVersion
from protos.v1 import fleet_pb2, resources_pb2


def hello(**changes: object) -> fleet_pb2.Hello:
    fields: dict[str, object] = {
        "node_id": "gru-1",
        "boot_id": "b",
        "schema": 1,
        "agent_version": "0.1.0",
        "peer_host": "10.0.0.1",
        "peer_port": 7_443,
        "client_url": "https://gru.example",
        "engine_kind": "vllm",
        "profile": resources_pb2.EngineProfile(max_parallel=4, tokens_per_s=1.0),
    }
    return fleet_pb2.Hello(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_valid_hello_is_a_registration():
    registration = registration_of(hello(schema=2))
    assert (registration.node_id, registration.peer_port) == ("gru-1", 7_443)
    assert registration.profile.max_parallel == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 0},
        {"boot_id": ""},
        {"boot_id": "x" * 200},
        {"peer_host": ""},
        {"peer_host": "two hosts"},
        {"peer_host": "h" * 300},
        {"peer_host": "new\nline"},
        {"peer_port": 0},
        {"peer_port": 65_536},
        {"client_url": "gru.example"},
        {"client_url": "https://"},
        {"client_url": "https://[::1"},
        {"client_url": "javascript:alert(1)"},
        {"engine_kind": ""},
        {"engine_kind": "VLLM"},
        {"agent_version": ""},
        {"profile": resources_pb2.EngineProfile(first_token_ms_p99=math.nan)},
        {"profile": resources_pb2.EngineProfile(tokens_per_s=-1.0)},
    ],
)
def test_an_invalid_hello_is_refused(changes: dict[str, object]):
    with pytest.raises(InvalidRequest):
        registration_of(hello(**changes))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes):
    try:
        message = agent_message(data)
    except InvalidRequest:
        return
    assert isinstance(message, fleet_pb2.AgentMessage)


def test_types_of_a_newer_agent_are_left_out():
    have = [
        fleet_pb2.Have(type=99, epoch=1, version=1),  # type: ignore[arg-type]
        fleet_pb2.Have(
            type=resources_pb2.RESOURCE_TYPE_PRICES, epoch=1, version=7, digest=b"\0" * 31 + b"\5"
        ),
    ]
    assert holdings_of(have) == {ResourceType.PRICES: Holding(TableVersion(1, 7), 5)}


def test_reports_and_probes_are_bounded():
    ready = fleet_pb2.ReplicaStatus(
        model="acme/a@1", state=resources_pb2.REPLICA_STATE_READY, generation=2
    )
    (report,) = reports_of(fleet_pb2.Status(replicas=[ready]))
    assert (report.model, report.state, report.generation) == ("acme/a@1", ReplicaState.READY, 2)
    with pytest.raises(InvalidRequest):
        reports_of(fleet_pb2.Status(replicas=[ready] * (MAX_REPLICAS + 1)))
    with pytest.raises(InvalidRequest):
        reports_of(fleet_pb2.Status(replicas=[fleet_pb2.ReplicaStatus(model="acme/a@1")]))
    peer = fleet_pb2.PeerView(node_id="iad-1", reachable=True)
    assert reachable_of(fleet_pb2.Status(peers=[peer])) == {"iad-1": True}
    with pytest.raises(InvalidRequest):
        reachable_of(fleet_pb2.Status(peers=[peer] * (MAX_PEERS + 1)))


def test_the_text_of_a_refusal_is_printable_and_cut():
    nack = fleet_pb2.Nack(
        nonce=3,
        type=resources_pb2.RESOURCE_TYPE_TOPOLOGY,
        reason=fleet_pb2.NACK_REASON_SHRUNK,
        error="half\nof it\x1b[31m" + "x" * 1_000,
    )
    nacked = nacked_of(nack)
    assert nacked.reason is RefusalReason.SHRUNK
    assert nacked.detail.isprintable()
    assert len(nacked.detail) <= 300


def test_printable():
    assert printable("a\tb\x00c", 3) == "a?b"
