"""A peer address that nobody can dial, under a real fleet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.devfleet.layout import FleetLayout
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import Fleet
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

NODE, OTHER = "iad-1", "gru-1"


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with (
        FakeEngineProcess("twin") as one,
        FakeEngineProcess("twin") as two,
        Fleet(tmp_path_factory.mktemp("a"), [one.url, two.url]) as running,
    ):
        yield running


def dial_of(fleet: Fleet) -> dict:
    return fleet.node_info(NODE).get("peer_dial") or {}


def restart_with(fleet: Fleet, text: str) -> None:
    FleetLayout(fleet.state_dir).agent_config(NODE).write_text(text)
    fleet.kill(NODE)
    fleet.start(NODE)


def test_a_peer_address_that_nobody_can_dial_is_shown_by_node_ls_until_it_is_mended(
    twins: Fleet,
) -> None:
    wait_until(lambda: dial_of(twins).get("by") == OTHER, 30, "the address to be dialled")
    assert not dial_of(twins)["failure"]

    path: Path = FleetLayout(twins.state_dir).agent_config(NODE)
    right = path.read_text()
    lines = [
        f"advertise_port = {free_ports(1)[0]}" if line.startswith("advertise_port") else line
        for line in right.splitlines()
    ]
    restart_with(twins, "\n".join(lines))
    wait_until(lambda: bool(dial_of(twins).get("failure")), 30, "the failed dial")
    assert f"cannot reach it: {dial_of(twins)['failure']}" in twins.edgeforge("node", "ls")
    assert f"peers cannot reach node={NODE}" in twins.log("coordinator")

    restart_with(twins, right)
    wait_until(lambda: dial_of(twins).get("failure") == "", 30, "the mended address")
