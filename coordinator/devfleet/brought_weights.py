"""Brings weights to the laptop's fleet as its users do: makes, uploads and deploys them.

The small model, a fine-tune of it (other weights of the same shape) and a LoRA adapter for it: each
by the commands that a customer types. Every step is idempotent.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from coordinator.cli.gguf_import import dequantise
from coordinator.devfleet.demo_weights import AdapterRecipe, write_adapter, write_fine_tune
from coordinator.devfleet.plan import SMALL_MODEL, SMALL_MODEL_DEPLOYMENT
from coordinator.devfleet.small_model import fetch_small_model

if TYPE_CHECKING:
    from coordinator.devfleet.layout import FleetFacts, FleetLayout

Report = Callable[[str], None]

FINE_TUNE = "edgeforge/smollm2-135m-tuned@1"
ADAPTER = "edgeforge/smollm2-135m-lora@1"
#: Enough to be seen in the small model's answers, which stay words.
ADAPTER_RECIPE = AdapterRecipe(seed=1, strength=0.8)
FINE_TUNE_SEED = 1


class Commands(Protocol):
    """What runs ``edgeforge``."""

    def run(self, *arguments: str) -> None:
        """Show one command and run it. Raises: EdgeForgeError."""

    def names(self, group: str) -> set[str]:
        """Return the names that ``edgeforge GROUP ls`` lists. Raises: EdgeForgeError."""


@dataclass(frozen=True, slots=True)
class BroughtDeployment:
    """A deployment of weights that were brought: its name, and what it serves."""

    name: str
    model: str
    #: The fine-tune's is for a swap and the way to it: it is at home in one place.
    budget_ms: int
    adapter: str = ""

    @property
    def what(self) -> str:
        """Return the kind of its weights in words."""
        return "a LoRA adapter" if self.adapter else "a fine-tune"

    @property
    def arguments(self) -> tuple[str, ...]:
        """Return the arguments of ``edgeforge deploy create``."""
        adapter = ("--adapter", self.adapter) if self.adapter else ()
        return (self.name, "--model", self.model, *adapter, "--ttft-p99", f"{self.budget_ms}ms")


ADAPTED = BroughtDeployment("smollm2-135m-lora", SMALL_MODEL, 1_000, ADAPTER)
TUNED = BroughtDeployment("smollm2-135m-tuned", FINE_TUNE, 3_000)
#: In the order in which they are shown.
BROUGHT_DEPLOYMENTS = (ADAPTED, TUNED)


def is_brought_to(facts: FleetFacts) -> bool:
    """Return whether a fleet starts engines of its own, which take other weights."""
    return any(one.name == SMALL_MODEL_DEPLOYMENT for one in facts.deployments)


def ensure_objects(
    commands: Commands, layout: FleetLayout, engine_venv: Path, report: Report
) -> None:
    """Import the small model, the fine-tune and the adapter where they are not registered yet."""
    models = commands.names("model")
    adapters = commands.names("adapter")
    if {SMALL_MODEL, FINE_TUNE} <= models and ADAPTER in adapters:
        return
    base = _small_model_folder(layout, engine_venv, report)
    if SMALL_MODEL not in models:
        commands.run("model", "import", str(base), "--name", SMALL_MODEL)
    if FINE_TUNE not in models:
        tuned = _made(
            layout.weights / "smollm2-135m-tuned",
            lambda target: write_fine_tune(base, target, FINE_TUNE_SEED),
        )
        commands.run("model", "import", str(tuned), "--name", FINE_TUNE)
    if ADAPTER not in adapters:
        adapter = _made(
            layout.weights / "smollm2-135m-lora",
            lambda target: write_adapter(base, target, ADAPTER_RECIPE),
        )
        named = ("--name", ADAPTER, "--base", SMALL_MODEL)
        commands.run("adapter", "import", str(adapter), *named)


def ensure_brought_deployments(commands: Commands, account: str) -> None:
    """Deploy the fine-tune and the adapter where they are not deployed yet."""
    known = commands.names("deploy")
    for one in BROUGHT_DEPLOYMENTS:
        if one.name not in known:
            commands.run("deploy", "create", *one.arguments, "--account", account)


def _small_model_folder(layout: FleetLayout, engine_venv: Path, report: Report) -> Path:
    def make(target: Path) -> None:
        report("fetching SmolLM2-135M-Instruct (94 MiB, once)")
        dequantise(fetch_small_model(layout.downloads), target, engine_venv, report)

    return _made(layout.weights / "smollm2-135m-instruct", make)


def _made(target: Path, make: Callable[[Path], None]) -> Path:
    """Return ``target``, made whole by ``make`` if it is not there."""
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(target.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        make(unfinished)
        unfinished.rename(target)
    return target
