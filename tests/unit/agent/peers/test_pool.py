"""Whom an agent keeps warm and asks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from agent.core.live import LiveState
from agent.peers.pool import PeerPool
from protos.domain.fleet_view import FleetView
from protos.domain.resources import ReplicaState
from tests.support import fleets


def targets(view: FleetView, *, most: int = 64, live: LiveState | None = None) -> list[str]:
    config: Any = SimpleNamespace(max_warm_targets=most, warm_spares=2)
    pool = PeerPool(
        "gru-1", config, cast("Any", None), lambda: view, live or LiveState(), lambda: 0.0
    )
    return pool.targets()


def fleet(**states: ReplicaState) -> FleetView:
    """gru-1, and nodes that hold the model in a state each."""
    names = [name.replace("_", "-") for name in states]
    return fleets.view(
        fleets.pop("IAD"),
        fleets.model(),
        *(fleets.node(name, "IAD") for name in names),
        *(
            fleets.replica(name, state=state)
            for name, state in zip(names, states.values(), strict=True)
        ),
    )


def test_holders_of_replicas_are_asked_and_never_oneself() -> None:
    assert targets(fleet(gru_1=ReplicaState.READY, iad_1=ReplicaState.READY)) == ["iad-1"]


def test_one_that_is_on_its_way_is_asked_after_those_that_are_ready() -> None:
    view = fleet(iad_1=ReplicaState.STARTING, iad_2=ReplicaState.READY)
    assert targets(view) == ["iad-2", "iad-1"]


def test_no_more_are_kept_warm_than_configured() -> None:
    view = fleet(iad_1=ReplicaState.READY, iad_2=ReplicaState.READY, iad_3=ReplicaState.READY)
    assert len(targets(view, most=2)) == 2


def test_who_holds_nothing_is_not_asked() -> None:
    view = fleets.view(fleets.pop("IAD"), fleets.node("iad-1", "IAD"))
    assert targets(view) == []


def test_where_requests_go_is_kept_warm_rather_than_who_is_first_in_the_table() -> None:
    view = fleet(iad_1=ReplicaState.READY, iad_2=ReplicaState.READY, iad_3=ReplicaState.READY)
    live = LiveState()
    live.request_started("iad-3", 0.0)
    assert targets(view, most=1, live=live) == ["iad-3"]
