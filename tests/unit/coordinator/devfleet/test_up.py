"""What is said while a fleet of this machine starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.devfleet import up, waiting
from coordinator.devfleet.layout import DeploymentFacts, FleetFacts, FleetLayout
from protos.v1 import admin_pb2, resources_pb2

PULLING, READY = resources_pb2.REPLICA_STATE_PULLING, resources_pb2.REPLICA_STATE_READY


class Listing:
    """A coordinator whose only deployment is as the next of ``said`` says: state and error."""

    def __init__(self, *said: tuple[int, str]) -> None:
        self.said = list(said)

    def call(self, method: object, request: object) -> admin_pb2.ListDeploymentsResponse:
        state, error = self.said.pop(0)
        info = admin_pb2.DeploymentInfo(
            deployment=resources_pb2.Deployment(name="chat"),
            replicas=[resources_pb2.Replica(node_id="gru-1", state=state)],  # type: ignore[arg-type]
            errors={"gru-1": error} if error else {},
        )
        return admin_pb2.ListDeploymentsResponse(deployments=[info])


def test_a_pull_that_is_stuck_is_said_with_its_error_when_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "require_running", lambda layout, name: None)
    monkeypatch.setattr(waiting, "_POLL_S", 0.0)
    facts = FleetFacts(deployments=[DeploymentFacts("chat", "acme/m@1", 80, 0, ["gru-1"])])
    stuck = (PULLING, "disk is full")
    listing = Listing((PULLING, ""), stuck, stuck, (READY, ""))
    lines: list[str] = []
    up._wait_replicas(listing, FleetLayout(tmp_path), facts, lines.append)  # type: ignore[arg-type]
    assert [line.rsplit(" (", 1)[0] for line in lines] == [
        "chat on gru-1: pulling",
        "chat on gru-1: pulling: disk is full",
        "chat on gru-1: ready",
    ]
