"""Accelerators that fail under a real fleet: who drains, who says why, and who serves instead."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.devfleet.layout import FleetLayout
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import Answer, Fleet
from tests.support.stub_gpu import StubLibrary, build_amdsmi, build_nvml
from tests.support.waiting import wait_until

#: The promise: from the fault to a drained node that says why.
DRAINED_WITHIN_S = 10
#: The cheaper of the two: every request goes there while it is well.
BROKEN, WELL = "iad-1", "gru-1"
BUILDERS = {"nvml": build_nvml, "amdsmi": build_amdsmi}


@pytest.fixture(scope="module")
def engines() -> Iterator[list[FakeEngineProcess]]:
    with FakeEngineProcess("twin") as first, FakeEngineProcess("twin") as second:
        yield [first, second]


@pytest.fixture(scope="module")
def twins(
    engines: list[FakeEngineProcess], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """The same model on two nodes."""
    folder = tmp_path_factory.mktemp("g")
    with Fleet(folder, [engine.url for engine in engines]) as running:
        yield running


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StubLibrary]:
    folder = tmp_path_factory.mktemp("stubs")
    return {kind: build(folder) for kind, build in BUILDERS.items()}


def node_facts(fleet: Fleet, node: str) -> dict:
    return fleet.node_info(node)


def restart_with(fleet: Fleet, kind: str) -> None:
    """Start the node's agent again with another reader."""
    path: Path = FleetLayout(fleet.state_dir).agent_config(BROKEN)
    text = path.read_text().partition("[gpu]")[0]
    path.write_text(text + f'[gpu]\nkind = "{kind}"\n')
    fleet.kill(BROKEN)
    fleet.start(BROKEN)
    wait_until(lambda: is_up(fleet), 30, "the agent to answer")


def is_up(fleet: Fleet) -> bool:
    try:
        return bool(fleet.agent(BROKEN).status()["link"]["connected"])
    except OSError:
        return False


def served_by(fleet: Fleet, via: str) -> str:
    answer = fleet.agent(via).chat()
    return answer.headers.get("x-edgeforge-node", "") if answer.status == 200 else ""


@pytest.fixture
def broken(twins: Fleet, stubs, monkeypatch: pytest.MonkeyPatch):
    """Hand out the stub of a kind once the node reads with it and serves; mend all at the end."""

    def use(kind: str) -> StubLibrary:
        stub = stubs[kind]
        stub.orders.clear()
        stub.set()
        for name, value in stub.environment.items():
            monkeypatch.setenv(name, value)
        restart_with(twins, kind)
        gpu = lambda: twins.agent(BROKEN).status()["gpu"]  # noqa: E731
        try:
            wait_until(lambda: len(gpu()["accelerators"]) == 2, 20, "two GPUs to be read")
        except AssertionError as error:
            raise AssertionError(f"{error}: {gpu()}\n{twins.log(BROKEN)[-3_000:]}") from None
        for via in (BROKEN, WELL):
            wait_until(lambda via=via: served_by(twins, via) == BROKEN, 20, f"{BROKEN} to serve")
        return stub

    yield use
    restart_with(twins, "none")
    twins.edgeforge("node", "resume", BROKEN)
    wait_until(lambda: not twins.agent(BROKEN).status()["draining"], 30, "the node to be back")


FAULTS = [
    pytest.param("nvml", {"hang": 1}, "no answer within 3000 ms", id="nvml-hangs"),
    pytest.param("nvml", {"lost": 0}, "is lost", id="gpu-lost"),
    pytest.param("nvml", {"xid": 79, "xid_number": 1}, "XID 79", id="xid-79"),
    pytest.param("amdsmi", {"ecc_uncorrected": 1}, "uncorrectable memory errors", id="amdsmi-ecc"),
]


@pytest.mark.parametrize(("kind", "orders", "reason"), FAULTS)
def test_a_fatal_gpu_fault_drains_the_node_says_why_and_clients_are_served_elsewhere(
    twins: Fleet, broken, kind, orders, reason
):
    broken(kind).set(**orders)

    def drained() -> bool:
        node = node_facts(twins, BROKEN)["node"]
        shown = node["intent"] == "NODE_INTENT_DRAINING" and reason in node["intent_reason"]
        return shown and reason in twins.agent(BROKEN).status()["draining_reason"]

    wait_until(drained, DRAINED_WITHIN_S, f"the node drained for {reason!r}")
    assert reason in twins.edgeforge("node", "ls")
    assert f"fatal: {'accelerators' if 'hang' in orders else 'GPU 0'}" in twins.edgeforge(
        "node", "show", BROKEN
    )
    for via in (BROKEN, WELL):
        assert served_by(twins, via) == WELL


def test_streams_that_run_end_normally_while_new_requests_go_elsewhere(
    twins: Fleet, engines: list[FakeEngineProcess], broken
):
    stub = broken("nvml")
    for engine in engines:
        engine.control(hold_after_tokens=3)
    answers: list[Answer] = []
    stream = threading.Thread(target=lambda: answers.append(twins.agent(BROKEN).chat(stream=True)))
    stream.start()
    try:
        in_flight = lambda: twins.agent(BROKEN).status()["in_flight"]  # noqa: E731
        wait_until(lambda: in_flight() == 1, 30, "the stream to run")
        stub.set(xid=79, xid_number=1)
        wait_until(lambda: twins.agent(BROKEN).status()["draining"], 30, "the node to drain")
        assert stream.is_alive(), "the stream was cut"
    finally:
        for engine in engines:
            engine.control()
        stream.join(60)
    (answer,) = answers
    assert answer.headers["x-edgeforge-node"] == BROKEN
    assert answer.events()[-1] == "[DONE]"
    assert served_by(twins, BROKEN) == WELL


def test_a_hardware_fault_outlives_its_agent_and_waits_for_an_operator(twins: Fleet, broken):
    broken("nvml").set(xid=79, xid_number=1)
    wait_until(
        lambda: node_facts(twins, BROKEN).get("order"), DRAINED_WITHIN_S, "an order to stand"
    )
    with pytest.raises(AssertionError, match=r"is not well: .*XID 79"):
        twins.edgeforge("node", "resume", BROKEN)
    assert "drain by coordinator" in twins.edgeforge("node", "show", BROKEN)
    restart_with(twins, "none")
    wait_until(lambda: not node_facts(twins, BROKEN)["faults"], 30, "a report without faults")
    assert node_facts(twins, BROKEN)["node"]["intent"] == "NODE_INTENT_DRAINING"
    assert served_by(twins, WELL) == WELL
    twins.edgeforge("node", "resume", BROKEN)
    wait_until(lambda: served_by(twins, WELL) == BROKEN, 20, "the node to serve again")


DASHBOARD = Path(__file__).parents[3] / "packaging" / "grafana" / "edgeforge.json"


def test_every_metric_of_the_dashboard_is_one_that_the_fleet_shows_with_a_help_text(
    twins: Fleet, broken
):
    broken("nvml").set(clock_bits=0x40)
    wait_until(lambda: "edgeforge_accelerator_slowed{" in twins.metrics(BROKEN), 30, "a throttle")
    pages = twins.metrics(BROKEN) + twins.metrics("coordinator")
    helped = set(re.findall(r"^# HELP (edgeforge_\w+) \S", pages, re.MULTILINE))
    shown = set(re.findall(r"^(edgeforge_\w+)[{ ]", pages, re.MULTILINE))
    histograms = re.findall(r"^# TYPE (edgeforge_\w+) histogram", pages, re.MULTILINE)
    parts = {f"{name}_{part}" for name in histograms for part in ("bucket", "count", "sum")}
    assert shown <= helped | parts
    board = json.loads(DASHBOARD.read_text())
    named = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"edgeforge_\w+", target["expr"])
    }
    assert len(named) > 20
    assert sorted(named - shown) == []
