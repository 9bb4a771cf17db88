"""Weights are brought once, by the commands that users have, and made whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.devfleet.brought_weights import (
    ADAPTED,
    ADAPTER,
    FINE_TUNE,
    TUNED,
    ensure_brought_deployments,
    ensure_objects,
    is_brought_to,
)
from coordinator.devfleet.layout import DeploymentFacts, FleetFacts, FleetLayout
from coordinator.devfleet.plan import SMALL_MODEL, SMALL_MODEL_DEPLOYMENT
from coordinator.devfleet.safetensors_file import tensors_of
from protos.domain.errors import EdgeForgeError
from tests.support.lora_files import CONFIG, base_files, write_files

BASE = "smollm2-135m-instruct"


class RecordedCommands:
    """Answers listings from what is there, and keeps what was run."""

    def __init__(self, **there: list[str]) -> None:
        self.there = there
        self.ran: list[tuple[str, ...]] = []
        self.fails_at = ""

    def names(self, group: str) -> set[str]:
        return set(self.there.get(group, []))

    def run(self, *arguments: str) -> None:
        if arguments[0] == self.fails_at:
            raise EdgeForgeError(f"{self.fails_at} failed")
        self.ran.append(arguments)


@pytest.fixture
def layout(tmp_path: Path) -> FleetLayout:
    """A fleet's folder in which the small model has been converted already."""
    layout = FleetLayout(tmp_path / "fleet")
    write_files(layout.weights / BASE, base_files())
    return layout


@pytest.fixture
def bring(layout: FleetLayout) -> Callable[[RecordedCommands], list[str]]:
    def run(commands: RecordedCommands) -> list[str]:
        said: list[str] = []
        ensure_objects(commands, layout, Path("no-engine"), said.append)
        return said

    return run


def test_a_new_fleet_imports_the_base_the_fine_tune_and_the_adapter(
    layout: FleetLayout, bring
) -> None:
    commands = RecordedCommands()
    bring(commands)
    folder = layout.weights
    assert commands.ran == [
        ("model", "import", str(folder / BASE), "--name", SMALL_MODEL),
        ("model", "import", str(folder / "smollm2-135m-tuned"), "--name", FINE_TUNE),
        (
            *("adapter", "import", str(folder / "smollm2-135m-lora")),
            *("--name", ADAPTER, "--base", SMALL_MODEL),
        ),
    ]
    assert tensors_of(folder / "smollm2-135m-tuned") == tensors_of(folder / BASE)
    assert (folder / "smollm2-135m-lora" / CONFIG).is_file()


def test_what_is_registered_is_neither_made_nor_imported_again(layout: FleetLayout, bring) -> None:
    commands = RecordedCommands(model=[SMALL_MODEL, FINE_TUNE], adapter=[ADAPTER])
    bring(commands)
    assert commands.ran == []
    assert [path.name for path in layout.weights.iterdir()] == [BASE]


def test_only_what_is_missing_is_imported(bring) -> None:
    commands = RecordedCommands(model=[SMALL_MODEL, FINE_TUNE])
    bring(commands)
    assert [ran[:2] for ran in commands.ran] == [("adapter", "import")]


def test_weights_that_were_left_unfinished_are_made_anew(layout: FleetLayout, bring) -> None:
    unfinished = layout.weights / "smollm2-135m-tuned.unfinished"
    write_files(unfinished, {"model.safetensors": b"half"})
    bring(RecordedCommands())
    assert not unfinished.exists()
    assert tensors_of(layout.weights / "smollm2-135m-tuned") == tensors_of(layout.weights / BASE)


def test_a_refused_import_ends_the_start_with_its_words(bring) -> None:
    commands = RecordedCommands()
    commands.fails_at = "adapter"
    with pytest.raises(EdgeForgeError, match="adapter failed"):
        bring(commands)


def test_both_are_deployed_for_the_account_with_a_budget_once() -> None:
    commands = RecordedCommands(deploy=[SMALL_MODEL_DEPLOYMENT])
    ensure_brought_deployments(commands, "default")
    create, account = ("deploy", "create"), ("--account", "default")
    adapter = ("--adapter", ADAPTER, "--ttft-p99", "1000ms")
    assert commands.ran == [
        (*create, ADAPTED.name, "--model", SMALL_MODEL, *adapter, *account),
        (*create, TUNED.name, "--model", FINE_TUNE, "--ttft-p99", "3000ms", *account),
    ]
    again = RecordedCommands(deploy=[SMALL_MODEL_DEPLOYMENT, ADAPTED.name, TUNED.name])
    ensure_brought_deployments(again, "default")
    assert again.ran == []


def test_only_a_fleet_with_engines_of_its_own_is_brought_weights() -> None:
    def facts(name: str, model: str) -> FleetFacts:
        return FleetFacts(deployments=[DeploymentFacts(name, model, 1_000, 0, ["iad-1"])])

    assert is_brought_to(facts(SMALL_MODEL_DEPLOYMENT, SMALL_MODEL))
    assert not is_brought_to(facts("llama", "external/llama@1"))
    assert not is_brought_to(FleetFacts())
