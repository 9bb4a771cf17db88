"""A customer's way from an upload to an answer, through real processes; each step is a test.

The steps build upon each other, in the order of this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from protos.domain.trace import part_ms, waterfall
from protos.v1 import trace_pb2
from protos.wire.traces import trace_from_wire
from tests.support.fleet import Answer
from tests.support.journey import Clients, Journey, journey, wait_told
from tests.support.registry_cases import adapter_files, adapter_tensors, base_files, values
from tests.support.waiting import wait_until

SUPPORT = "acme/support"
EDGE, REGIONAL = "mad-1", "fra-1"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    with journey(tmp_path_factory.mktemp("j")) as one:
        yield one


@pytest.fixture(autouse=True)
def logs_of_a_failure(fleet: Journey, request: pytest.FixtureRequest) -> Iterator[None]:
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        print(fleet.logs())


def text_of(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    return answer.body.decode()


def served_at(fleet: Journey, node: str, model: str) -> None:
    """Ask at a node until its own engine answers."""
    wait_until(
        lambda: fleet.ask(node, model).headers.get("x-edgeforge-node") == node,
        30,
        f"the engine of {node} to serve {model}",
    )


def test_a_model_and_an_adapter_are_uploaded_with_hf_and_deployed(fleet: Journey) -> None:
    variables = fleet.hub_variables()
    fleet.hf(variables, "upload", "acme/base", fleet.written("base", base_files()))
    files = adapter_files(base_model_name_or_path="acme/base")
    fleet.hf(variables, "upload", "acme/fr", fleet.written("fr", files))
    done = fleet.command(
        *("deploy", "create", SUPPORT, "--model", "acme/base", "--adapter", "acme/fr"),
        *("--ttft-p99", "800ms"),
    )
    assert done.returncode == 0, done.stderr
    # Its adapter is loaded when it is asked for, unless somebody has asked already.
    assert "acme/base@1 with acme/fr@1, revision 1, " in done.stdout
    assert any(one in done.stdout for one in ("revision 1, served", "revision 1, ready on demand"))
    assert "waiting" in done.stderr


def test_the_first_answer_waits_for_the_adapter_and_the_second_does_not(fleet: Journey) -> None:
    answer = fleet.ask(REGIONAL, SUPPORT)
    assert SUPPORT in text_of(answer)
    trace = fleet.trace(answer, REGIONAL)
    cold = trace["cold_start"]
    assert (cold["path"], cold["residency"]) == ("adapter", "origin")
    assert cold["took_ms"] > cold["pull_ms"] > 0
    parts = waterfall(trace_from_wire(ParseDict(trace, trace_pb2.Trace())))
    before_first = [one for one in parts if one.name != "decode"]
    assert sum(one.took_ms for one in before_first) == pytest.approx(trace["first_token_ms"])
    assert part_ms(parts, "load") >= cold["took_ms"]
    again = fleet.ask(REGIONAL, SUPPORT)
    text_of(again)
    assert not fleet.trace(again, REGIONAL).get("cold_start")


def test_a_tracked_release_is_imported_qualified_and_available(fleet: Journey) -> None:
    fleet.edgeforge("model", "track", "hf://org/repo", "--as", "acme/adopted", "--account", "acme")

    def is_in(state: str) -> Any:
        return lambda tracks: tracks[0]["releases"][0]["state"] == state

    (track,) = wait_told(fleet, "model", "tracks", until=is_in("imported"), what="the import")
    name = track["releases"][0]["object"]
    assert name == f"acme/adopted@{fleet.upstream.sha[:12]}"
    fleet.edgeforge(
        *("deploy", "create", "acme/adopted", "--model", name, "--ttft-p99", "2s", "--node", EDGE),
    )
    text_of(fleet.ask(EDGE, "acme/adopted"))
    (track,) = wait_told(fleet, "model", "tracks", until=is_in("available"), what="available")
    release = track["releases"][0]
    assert release["promise"] == "kept"
    assert release["tokens_per_s"] > 0
    fleet.edgeforge("model", "untrack", "hf://org/repo")
    fleet.edgeforge("deploy", "rm", "acme/adopted")


def test_a_fine_tune_takes_the_place_of_another_by_a_swap(fleet: Journey) -> None:
    cold = []
    for version in ("1", "2"):
        files = fleet.written(f"tuned{version}", base_files(f"tuned{version}"))
        named = ("--name", f"acme/tuned@{version}", "--account", "acme")
        fleet.edgeforge("model", "import", files, *named)
        deployment = f"acme/tuned-{version}"
        fleet.edgeforge(
            *("deploy", "create", deployment, "--model", f"acme/tuned@{version}"),
            *("--ttft-p99", "2s"),
        )
        answer = fleet.ask_until_served(EDGE, deployment)
        # Not the header: the head of a stream that waits for a residence to end goes out before.
        trace = fleet.trace(answer, EDGE)
        assert trace["attempts"][-1]["node_id"] == EDGE
        cold.append(trace["cold_start"])
        text_of(fleet.ask(EDGE, deployment))
    # The home of both, whose engine is busy, has pulled them; the edge takes them from there.
    assert [one["path"] for one in cold] == ["engine", "swap"]
    assert {one["residency"] for one in cold} <= {"peer", "origin"}
    fleet.edgeforge("deploy", "rm", "acme/tuned-2")


def test_an_adapter_is_ported_to_a_fine_tune_and_compared_on_engines(fleet: Journey) -> None:
    named = ("--to", "acme/tuned@1", "--as", "acme/fr-tuned@1")
    ported = fleet.told("adapter", "port", "acme/fr@1", *named)
    assert (ported["model"], ported["ported_from"]) == ("acme/tuned@1", "acme/fr@1")
    early = fleet.command("adapter", "compare", "acme/fr-tuned")
    assert early.returncode == 1
    assert "no engine serves acme/fr-tuned@1 now" in early.stderr
    fleet.edgeforge(
        *("deploy", "create", "acme/ported", "--model", "acme/tuned@1", "--adapter"),
        *("acme/fr-tuned", "--ttft-p99", "2s", "--node", EDGE),
    )
    text_of(fleet.ask_until_served(REGIONAL, "acme/ported"))
    told = fleet.told("adapter", "compare", "acme/fr-tuned")
    # The fake engine says the same whatever it holds.
    assert told["comparison"] == "6 of 6 answers are those of acme/fr@1"
    assert fleet.told("adapter", "show", "acme/fr-tuned")["comparison"] == told["comparison"]
    for name in ("acme/ported", "acme/tuned-1"):
        fleet.edgeforge("deploy", "rm", name)


def test_another_node_gets_the_weights_from_the_first_and_not_from_the_origin(
    fleet: Journey,
) -> None:
    def pulled() -> tuple[float, float, float]:
        return (
            fleet.metric(EDGE, "edgeforge_pulled_bytes"),
            fleet.metric(REGIONAL, "edgeforge_pieces_sent_bytes"),
            fleet.metric(EDGE, "edgeforge_pulled_origin_bytes"),
        )

    before = pulled()
    fleet.edgeforge("deploy", "update", SUPPORT, "--node", EDGE, "--node", REGIONAL)
    assert fleet.told("deploy", "show", SUPPORT)["nodes"][0]["node_id"] == REGIONAL
    served_at(fleet, EDGE, SUPPORT)
    after = pulled()
    by_peer = after[0] - before[0]
    assert by_peer > 0
    assert (after[1] - before[1], after[2]) == (by_peer, before[2])


def test_no_request_fails_while_the_adapter_is_replaced_and_put_back(fleet: Journey) -> None:
    changed = {
        name: (one[0], values(f"2{name}", one[0])) for name, one in adapter_tensors().items()
    }
    files = adapter_files(changed, base_model_name_or_path="acme/base")
    fleet.hf(fleet.hub_variables(), "upload", "acme/fr", fleet.written("fr2", files))
    with Clients(fleet, SUPPORT, (EDGE, REGIONAL)) as clients:
        said = fleet.edgeforge("deploy", "update", SUPPORT, "--adapter", "acme/fr")
        assert "acme/fr@2, revision 3" in said
        said = fleet.edgeforge("deploy", "rollback", SUPPORT)
        assert "acme/fr@1, revision 4" in said
    failed = [one for one in clients.answers if one.status != 200]
    assert failed == []


def test_an_agent_that_starts_without_the_coordinator_serves_the_adapter_from_its_disk(
    fleet: Journey,
) -> None:
    assert fleet.coordinator.stop() == 0
    try:
        fleet.nodes[EDGE].stop()
        fleet.revive(EDGE)
        served_at(fleet, EDGE, SUPPORT)
        assert fleet.metric(EDGE, "edgeforge_pulled_bytes") == 0
    finally:
        fleet.coordinator.start()
    wait_told(
        fleet,
        *("node", "ls"),
        until=lambda nodes: all(one["connected"] for one in nodes),
        what="both nodes to be connected again",
    )


def test_what_a_deployment_uses_is_not_removed(fleet: Journey) -> None:
    for command in (("adapter", "rm", "acme/fr@1"), ("model", "rm", "acme/base@1")):
        refused = fleet.command(*command, "--yes")
        assert refused.returncode == 1
        assert SUPPORT in refused.stderr


def test_what_operators_are_shown_is_right(fleet: Journey) -> None:
    shown = fleet.told("deploy", "show", SUPPORT)
    made = [(one["deployment"]["revision"], one["reason"]) for one in shown["revisions"]]
    assert made == [(4, "rollback to 2"), (3, "update"), (2, "update"), (1, "create")]
    states = {one["node_id"]: (one["state"], one["hold"]) for one in shown["nodes"]}
    assert states == dict.fromkeys((EDGE, REGIONAL), ("ready", "hot"))
    node = wait_told(
        fleet,
        *("node", "show", EDGE),
        until=lambda told: told["have"] == told["current"],
        what="the node to have the present tables",
    )
    held = {(one["model"], one["adapter"]): one["state"] for one in node["replicas"]}
    for adapter in ("", "acme/fr@1"):
        assert held["acme/base@1", adapter] == "REPLICA_STATE_READY"
    plan = fleet.told("plan", "show")
    assert {"acme/base@1", "acme/fr@1"} <= {one["name"] for one in plan["holds"]}
    assert {one["hold"] for one in plan["holds"]} == {"hot"}
    assert plan["unplaced"] == []
    models = {one["name"]: one for one in fleet.told("model", "ls")}
    assert models["acme/base@1"]["published_by"] == "account/acme"
    assert f"deployment {SUPPORT}" in models["acme/base@1"]["used_by"]
    assert [models[f"acme/tuned@{one}"]["is_latest"] for one in "12"] == [False, True]
    # Weights of one shape can be swapped.
    assert len({one["swap_key"] for one in models.values()}) == 1


def test_what_no_deployment_uses_any_more_is_removed(fleet: Journey) -> None:
    fleet.edgeforge("deploy", "rm", SUPPORT)
    assert fleet.ask(REGIONAL, SUPPORT).status == 404
    fleet.edgeforge("adapter", "rm", "acme/fr@1", "--yes")
    assert {one["name"] for one in fleet.told("adapter", "ls")} == {"acme/fr@2", "acme/fr-tuned@1"}
