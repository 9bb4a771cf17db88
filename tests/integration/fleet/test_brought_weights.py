"""``edgeforge up`` in front of a fake vLLM: weights are made, imported, deployed and asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from coordinator.devfleet.brought_weights import ADAPTED, ADAPTER, FINE_TUNE, TUNED
from coordinator.devfleet.layout import FleetLayout
from coordinator.devfleet.plan import SMALL_MODEL, SMALL_MODEL_DEPLOYMENT
from tests.support.fake_vllm import fake_environment
from tests.support.fleet import Fleet
from tests.support.lora_files import base_files, write_files


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One engine; the small model is there already, so nothing is fetched or converted."""
    folder = tmp_path_factory.mktemp("w")
    write_files(FleetLayout(folder).weights / "smollm2-135m-instruct", base_files())
    environment = str(fake_environment(folder / "engine"))
    with Fleet(folder, [], "--sites", "2", "--engine-venv", environment) as running:
        yield running


def listed(fleet: Fleet, *command: str) -> list[dict[str, Any]]:
    return list(json.loads(fleet.edgeforge(*command, "--json")))


def test_the_weights_are_objects_of_the_registry_and_deployed(fleet: Fleet) -> None:
    assert {one["name"] for one in listed(fleet, "model", "ls")} == {SMALL_MODEL, FINE_TUNE}
    assert {one["name"] for one in listed(fleet, "adapter", "ls")} == {ADAPTER}
    deployed = {one["deployment"]["name"]: one for one in listed(fleet, "deploy", "ls")}
    assert set(deployed) == {SMALL_MODEL_DEPLOYMENT, ADAPTED.name, TUNED.name}
    assert deployed[ADAPTED.name]["deployment"]["adapter"] == ADAPTER


@pytest.mark.parametrize(("deployment", "path"), [(ADAPTED.name, "adapter"), (TUNED.name, "swap")])
def test_the_first_answer_has_its_cold_start_in_the_trace_and_the_second_none(
    fleet: Fleet, deployment: str, path: str
) -> None:
    found = json.loads(
        fleet.edgeforge("trace", "ls", "--via", "GRU", "--deployment", deployment, "--json")
    )["traces"]
    shown = [
        json.loads(fleet.edgeforge("trace", "show", one["trace_id"], "--json")) for one in found
    ]
    first, second = sorted(shown, key=lambda one: int(one["began_unix_ms"]))
    assert first["cold_start"]["path"] == path
    assert first["cold_start"]["took_ms"] > 0
    assert not second.get("cold_start")
