"""The fleet on one screen."""

from __future__ import annotations

import json

from coordinator.cli.status import Overview
from coordinator.cli.validity import Validity
from protos.v1 import admin_pb2, fleet_pb2, resources_pb2

DAY_MS = 24 * 3_600_000


def node(node_id, pop, **fields):
    health = fields.pop("health", resources_pb2.NODE_HEALTH_READY)
    return admin_pb2.NodeInfo(
        node=resources_pb2.Node(id=node_id, pop_id=pop, health=health), **fields
    )


OVERVIEW = Overview(
    "coordinator.example:7402",
    [
        node("iad-1", "IAD", health=resources_pb2.NODE_HEALTH_DEAD, last_status_age_s=90.0),
        node(
            "gru-1",
            "GRU",
            connected=True,
            engine_kind="vllm",
            in_flight_requests=3,
            certificate_remaining_s=20 * 86_400.0,
            service=fleet_pb2.Service(shed=2, first_tokens=9, ttft_ms_p99=81.4),
            faults=[fleet_pb2.AcceleratorFault(detail="XID 79", fatal=True, active=True)],
            peer_dial=admin_pb2.PeerDial(by="gru-2", failure="timed out"),
        ),
    ],
    [
        admin_pb2.DeploymentInfo(
            deployment=resources_pb2.Deployment(name="chat", model="a/m@1", ttft_budget_ms=80),
            node_ids=["gru-1"],
            replicas=[
                resources_pb2.Replica(node_id="gru-1", state=resources_pb2.REPLICA_STATE_READY),
                resources_pb2.Replica(node_id="iad-1", state=resources_pb2.REPLICA_STATE_PULLING),
            ],
        )
    ],
    admin_pb2.ListOperatorsResponse(
        operators=[admin_pb2.OperatorInfo(name="ana", role="operator")], caller="ana"
    ),
    Validity(12 * DAY_MS),
    2 * DAY_MS,
)


def test_who_asks_and_how_the_fleet_is():
    assert OVERVIEW.head() == [
        "coordinator coordinator.example:7402",
        "you are ana (operator, certificate 10 days)",
        "nodes 2: 1 dead, 1 ready; 1 connected",
    ]


def test_nodes_by_pop_with_their_alarms_and_what_users_felt():
    gru, iad = OVERVIEW.node_rows()
    assert gru[:2] == ("GRU", "gru-1")
    assert gru[4:8] == ("vllm", 3, "81 ms", 2)
    assert gru[8] == "20 days"
    assert "XID 79" in gru[-1]
    assert "timed out" in gru[-1]
    assert iad[:4] == ("IAD", "iad-1", "dead", "silent for 90 s")
    assert iad[6] == iad[8] == iad[-1] == "-"


def test_deployments_with_their_ready_replicas():
    assert OVERVIEW.deployment_rows() == [("chat", "a/m@1", "1 of 2", "80 ms", "gru-1")]


def test_json_has_the_same_and_no_number_where_none_is_known():
    shown = json.loads(json.dumps(OVERVIEW.as_json()))
    assert shown["operator"] == {"name": "ana", "role": "operator", "certificate_days": 10.0}
    assert shown["health"] == {"dead": 1, "ready": 1}
    assert [one["ttft_ms_p99"] for one in shown["nodes"]] == [81.4, None]
    assert shown["deployments"][0]["replicas_ready"] == 1


def test_somebody_whose_row_is_missing_is_unknown():
    assert Overview("x", [], [], admin_pb2.ListOperatorsResponse(), None, 0).head() == [
        "coordinator x",
        "you are  (unknown)",
        "nodes 0: none; 0 connected",
    ]
