"""A customer's way from an upload to an answer, through real processes; each step is a test.

The steps build upon each other, in the order of this file.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.fleet import Answer
from tests.support.journey import Journey, journey
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


def replicas(fleet: Journey, name: str) -> dict[str, dict[str, Any]]:
    shown = fleet.told("deploy", "show", name)
    return {one["node_id"]: one for one in shown["nodes"]}


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
    assert "acme/base@1 with acme/fr@1, revision 1, served" in done.stdout
    assert "waiting" in done.stderr


def test_the_first_answer_waits_for_the_adapter_and_the_second_does_not(fleet: Journey) -> None:
    answer = fleet.ask(REGIONAL, SUPPORT)
    assert SUPPORT in text_of(answer)
    trace = fleet.trace(answer, REGIONAL)
    cold = trace["cold_start"]
    assert (cold["path"], cold["residency"]) == ("adapter", "origin")
    assert cold["took_ms"] > cold["pull_ms"] > 0
    print(trace)
    again = fleet.ask(REGIONAL, SUPPORT)
    text_of(again)
    assert not fleet.trace(again, REGIONAL).get("cold_start")


def test_another_node_gets_the_weights_from_the_first_and_not_from_the_origin(
    fleet: Journey,
) -> None:
    fleet.edgeforge("deploy", "update", SUPPORT, "--node", EDGE, "--node", REGIONAL)
    answer = fleet.ask(EDGE, SUPPORT)
    text_of(answer)
    assert answer.headers["x-edgeforge-node"] == EDGE
    pulled = fleet.metric(EDGE, "edgeforge_pulled_bytes")
    assert pulled > 0
    assert fleet.metric(EDGE, "edgeforge_pulled_origin_bytes") == 0
    assert fleet.metric(REGIONAL, "edgeforge_pieces_sent_bytes") == pulled


class Clients:
    """Ask at both nodes, one request after the other, until they are told to stop."""

    def __init__(self, fleet: Journey, model: str) -> None:
        self.answers: list[Answer] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(fleet, node, model))
            for node in (EDGE, REGIONAL)
        ]

    def _ask(self, fleet: Journey, node: str, model: str) -> None:
        while not self._stop.is_set():
            self.answers.append(fleet.ask(node, model))

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self.answers) > 4, 30, "the first answers")
        return self

    def __exit__(self, *_error: object) -> None:
        count = len(self.answers)
        wait_until(lambda: len(self.answers) > count + 20, 30, "answers after the change")
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_no_request_fails_while_the_adapter_is_replaced_and_put_back(fleet: Journey) -> None:
    changed = {
        name: (one[0], values(f"2{name}", one[0])) for name, one in adapter_tensors().items()
    }
    files = adapter_files(changed, base_model_name_or_path="acme/base")
    fleet.hf(fleet.hub_variables(), "upload", "acme/fr", fleet.written("fr2", files))
    with Clients(fleet, SUPPORT) as clients:
        said = fleet.edgeforge("deploy", "update", SUPPORT, "--adapter", "acme/fr")
        assert "acme/fr@2, revision 3" in said
        said = fleet.edgeforge("deploy", "rollback", SUPPORT)
        assert "acme/fr@1, revision 4" in said
    failed = [one for one in clients.answers if one.status != 200]
    assert failed == []
