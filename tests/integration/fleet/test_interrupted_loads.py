"""A node is killed while weights are on their way: others answer, or say so; nothing is stuck."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from protos.domain.pieces import PIECE_BYTES
from tests.support.fleet import Answer
from tests.support.journey import Clients, Journey, journey, wait_told
from tests.support.registry_cases import Files, adapter_files, base_files, safetensors_of
from tests.support.waiting import wait_until

EDGE, REGIONAL = "mad-1", "fra-1"
BOTH = ("--node", EDGE, "--node", REGIONAL)
BIG_BYTES = 10_000_000
WEIGHTS_DELAY_MS = 2_000


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    """Engines take their time with weights, and nodes pull 4 MiB at once and 2 MB a second."""
    folder: Path = tmp_path_factory.mktemp("i")
    with journey(folder, WEIGHTS_DELAY_MS, "pull_bytes_per_s = 2_000_000\n") as one:
        for name, files in (("base", base_files()), ("tuned", base_files("tuned"))):
            publish(one, name, files)
        yield one


@pytest.fixture(autouse=True)
def logs_of_a_failure(fleet: Journey, request: pytest.FixtureRequest) -> Iterator[None]:
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        print(fleet.logs())


def publish(fleet: Journey, name: str, files: Files) -> None:
    named = ("--name", f"acme/{name}@1", "--account", "acme")
    fleet.edgeforge("model", "import", fleet.written(name, files), *named)


def big_files() -> Files:
    """Return a model of three pieces."""
    noise = random.Random(1).randbytes(BIG_BYTES)
    return base_files() | {"model.safetensors": safetensors_of({"w": ((BIG_BYTES // 2,), noise)})}


def held(fleet: Journey, node: str, name: str) -> dict[str, Any]:
    """Return what a node says of a model or an adapter; empty: nothing yet."""
    replicas = fleet.client(node).status()["replicas"]
    return next((one for one in replicas if name in (one["adapter"] or one["model"])), {})


def wait_settled(fleet: Journey, deployment: str) -> dict[str, Any]:
    """Return the deployment once nothing is waited for."""
    return dict(
        wait_told(
            fleet,
            *("deploy", "show", deployment),
            until=lambda told: (
                not told["waits_for"] and told.get("rollout", {}).get("phase") != "preparing"
            ),
            what=f"{deployment} to be as planned",
            timeout_s=60,
        )
    )


def test_a_node_that_is_killed_while_it_pulls_goes_on_where_it_was(fleet: Journey) -> None:
    publish(fleet, "big", big_files())
    fleet.edgeforge(
        *("deploy", "create", "acme/big", "--model", "acme/big", "--ttft-p99", "2s", "--detach"),
        *BOTH,
    )
    # A piece of the weights, and not only the small files before it, which are pulled whole.
    wait_until(
        lambda: PIECE_BYTES <= fleet.metric(EDGE, "edgeforge_pulled_bytes") < BIG_BYTES,
        30,
        "half a pull",
    )
    fleet.kill(EDGE)
    fleet.ask_until_served(REGIONAL, "acme/big")
    fleet.revive(EDGE)
    shown = wait_settled(fleet, "acme/big")
    assert {one["node_id"]: one["state"] for one in shown["nodes"]} == {
        EDGE: "ready",
        REGIONAL: "ready",
    }
    assert 0 < fleet.metric(EDGE, "edgeforge_pulled_bytes") < BIG_BYTES
    fleet.edgeforge("deploy", "rm", "acme/big")


def test_a_node_that_is_killed_while_it_loads_an_adapter_fails_its_requests_clearly(
    fleet: Journey,
) -> None:
    """It is the only one that may serve the adapter; once it is back it does."""
    files = fleet.written("fr", adapter_files())
    named = ("--name", "acme/fr@1", "--base", "acme/base", "--account", "acme")
    fleet.edgeforge("adapter", "import", files, *named)
    create = ("--model", "acme/base", "--ttft-p99", "5s")
    fleet.edgeforge("deploy", "create", "acme/plain", *create, *BOTH)
    fleet.edgeforge(
        *("deploy", "create", "acme/support", *create, "--adapter", "acme/fr", "--detach"),
        *("--node", EDGE),
    )
    wait_until(lambda: held(fleet, EDGE, "acme/fr").get("state") == "starting", 30, "a load")
    with ThreadPoolExecutor(1) as clients:
        asked = clients.submit(fleet.ask, REGIONAL, "acme/support")
        fleet.kill(EDGE)
        answer: Answer = asked.result(30)
    assert answer.status in (502, 503), answer.body
    assert answer.json()["error"]["message"]
    assert fleet.ask(REGIONAL, "acme/plain").status == 200
    fleet.revive(EDGE)
    answer = fleet.ask_until_served(REGIONAL, "acme/support")
    assert answer.headers["x-edgeforge-node"] == EDGE
    wait_settled(fleet, "acme/support")
    fleet.edgeforge("deploy", "rm", "acme/support")


def test_a_node_that_is_killed_while_it_swaps_leaves_the_old_version_to_the_other(
    fleet: Journey,
) -> None:
    """The update, which it was the first to take, is completed once it is back."""
    fleet.edgeforge("deploy", "update", "acme/plain", "--model", "acme/tuned", "--detach")
    wait_until(lambda: "state=reloading" in fleet.nodes[REGIONAL].log_text(), 30, "a swap")
    fleet.kill(REGIONAL)
    for _ in range(20):
        assert fleet.ask(EDGE, "acme/plain").status == 200
    fleet.revive(REGIONAL)
    shown = wait_settled(fleet, "acme/plain")
    assert shown["deployment"]["model"] == "acme/tuned@1"
    for node in (EDGE, REGIONAL):
        fleet.ask_until_served(node, "acme/plain")


def test_no_request_fails_while_the_model_of_busy_engines_is_replaced(fleet: Journey) -> None:
    """One engine swaps while the other serves, and then serves for both."""
    with Clients(fleet, "acme/plain", (EDGE, REGIONAL)) as clients:
        said = fleet.edgeforge("deploy", "update", "acme/plain", "--model", "acme/base")
        assert "acme/base@1" in said
    failed = [(one.status, one.body) for one in clients.answers if one.status != 200]
    assert failed == []
    assert not any(b'"error"' in one.body for one in clients.answers)
