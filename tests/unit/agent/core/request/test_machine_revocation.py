"""Transcripts of requests whose node, key, account or deployment leaves the table."""

from __future__ import annotations

import pytest

from agent.core.request.messages import Rest
from protos.domain.customers import Account
from tests.support.fleets import deployment
from tests.support.request_world import (
    KEY,
    TWO,
    USAGE,
    RequestWorld,
    fleet,
    outcomes,
)


def test_a_removed_nodes_request_is_replaced_before_the_first_byte_at_once():
    world = RequestWorld(fleet(TWO))
    world.begin()
    assert world.node_removed("near", 50.0) == ["cancel near", "ask far"]
    assert world.token("far", 50.0) == ["head far"]
    assert outcomes(world) == [("near", "failed")]
    assert world.log.attempts[0].detail == "node near was removed"
    assert world.stream_ends("far") == ["account", "end far"]


def test_a_removed_nodes_stream_is_continued_elsewhere_or_ends_with_an_error_event():
    for rest, commands in (
        (Rest.TEXT, ["cancel near", "ask far (rest)"]),
        (Rest.END, ["cancel near", "account", "end near"]),
        (Rest.UNKNOWN, ["cancel near", "account", "error event 502 EngineFailed"]),
    ):
        world = RequestWorld(fleet(TWO))
        world.begin()
        world.token("near", 30.0)
        assert world.node_removed("near", 500.0, rest) == commands
        assert outcomes(world) == [("near", "broken")]


def test_a_removed_nodes_whole_answer_is_fetched_from_another():
    world = RequestWorld(fleet(TWO), stream=False)
    world.begin()
    assert world.node_removed("near", 50.0) == ["cancel near", "ask far"]
    assert world.whole("far") == ["account", "respond far"]


def test_of_two_copies_only_the_one_on_the_removed_node_is_cut():
    world = RequestWorld(fleet(TWO), hedge_ratio=1.0)
    for name, ms in TWO.items():
        world.learned(name, ms)
    for _ in range(20):
        world.begin()
        world.token("near", 5.0)
        world.stream_ends("near")
    world.begin()
    assert world.wait(150.0) == ["ask far (second_copy)"]
    assert world.node_removed("near") == ["cancel near"]
    assert world.token("far", 10.0) == ["head far"]


def test_the_removal_of_a_node_that_is_not_asked_changes_nothing():
    world = RequestWorld(fleet(TWO))
    world.begin()
    assert world.node_removed("far") == []
    assert world.token("near", 30.0) == ["head near"]


@pytest.mark.parametrize(
    ("row", "error"),
    [
        (KEY, "401 Unauthenticated"),
        (Account("acme"), "401 Unauthenticated"),
        (deployment(), "404 NotFound"),
    ],
    ids=["key", "account", "deployment"],
)
def test_a_revoked_request_is_cut_wherever_it_is_and_pays_for_what_it_received(row, error):
    world = RequestWorld(fleet(TWO))
    world.begin()
    assert world.table_changes(row) == ["cancel near", "account", f"error {error}"]
    assert outcomes(world) == [("near", "revoked")]
    assert world.machine.over

    world = RequestWorld(fleet(TWO))
    world.begin()
    world.token("near", 30.0)
    assert world.table_changes(row, after_ms=500.0) == [
        "cancel near",
        "account",
        f"error event {error}",
    ]
    assert (world.log.usage, world.log.broken) == (USAGE, False)
    assert world.state.live.in_flight("near") == 0
    assert not world.state.live.is_ejected("near", world.now)


def test_no_revocation_reaches_a_request_that_is_over():
    world = RequestWorld(fleet(TWO))
    world.begin()
    world.token("near")
    world.stream_ends("near")
    assert world.table_changes(KEY) == []
    assert world.node_removed("near") == []
