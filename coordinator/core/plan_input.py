"""What the replica plan is made from: nodes as measured, what deployments ask for, and rules.

Also says what fits where, in words, for the plan and for the refusals of a deploy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from protos.domain.hardware import UNKNOWN_HARDWARE, NodeHardware
from protos.domain.resources import Hold, ModelSource, NodeIntent, Tier

if TYPE_CHECKING:
    from protos.domain.resources import Adapter, Deployment, Model, ModelFile, Runtime

#: The engine kind that can hold a model of each source.
ENGINE_KIND_OF = {ModelSource.MANAGED: "vllm", ModelSource.EXTERNAL: "external"}
#: Rules that operators may have at once.
MAX_RULES = 1_000
_GB = 1e9


@dataclass(frozen=True, slots=True)
class PlanNode:
    """A node as the planner sees it; ``engine_kind`` is empty until the node has reported it."""

    engine_kind: str
    intent: NodeIntent
    #: What the last plan gave it: a model, or ``model+adapter``.
    holds: Mapping[str, Hold] = field(default_factory=dict)
    pop_id: str = ""
    tier: Tier = Tier.EDGE
    zone: str = ""
    #: Whether it has not been given up as dead.
    alive: bool = True
    #: Whether it is to be retired: what it holds goes elsewhere first.
    retiring: bool = False
    hardware: NodeHardware = UNKNOWN_HARDWARE
    #: For models; 0: not known.
    disk_quota_bytes: int = 0
    #: Of its engine as measured; 0: not known.
    tokens_per_s: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether what it holds serves: it is neither dead nor about to go."""
        return (
            self.alive
            and not self.retiring
            and self.intent in (NodeIntent.ACTIVE, NodeIntent.CORDONED)
        )

    @property
    def hot(self) -> tuple[str, ...]:
        """The models that the last plan gave to its engines."""
        return tuple(
            sorted(
                name for name, hold in self.holds.items() if hold is Hold.HOT and "+" not in name
            )
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """An operator's pin, or prohibition, of a model or an adapter at a POP or a node."""

    name: str
    pop_id: str = ""
    node_id: str = ""
    by: str = ""

    @property
    def place(self) -> str:
        """Where it holds, in words."""
        return f"node {self.node_id}" if self.node_id else f"POP {self.pop_id}"

    def covers(self, node_id: str, pop_id: str) -> bool:
        """Return whether a node is where the rule holds."""
        return node_id == self.node_id if self.node_id else pop_id == self.pop_id


@dataclass(frozen=True, slots=True)
class PlanRules:
    """What operators have said about the plan. ``frozen`` is POP -> who froze it."""

    pins: tuple[Rule, ...] = ()
    forbids: tuple[Rule, ...] = ()
    frozen: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlanInput:
    """The fleet at one moment."""

    nodes: Mapping[str, PlanNode]
    models: Mapping[str, Model]
    #: model or adapter -> its files
    manifests: Mapping[str, Sequence[ModelFile]]
    deployments: Mapping[str, Deployment]
    #: deployment -> node ids that its operator named
    placements: Mapping[str, Sequence[str]]
    adapters: Mapping[str, Adapter] = field(default_factory=dict)
    runtimes: Mapping[str, Runtime] = field(default_factory=dict)
    #: deployment -> its next version, that is made ready
    preparing: Mapping[str, Deployment] = field(default_factory=dict)
    #: deployment -> its version before, kept for a grace
    leaving: Mapping[str, Deployment] = field(default_factory=dict)
    #: (POP, deployment) -> requests per minute
    demand: Mapping[tuple[str, str], float] = field(default_factory=dict)
    rules: PlanRules = field(default_factory=PlanRules)

    def pins_of(self, name: str) -> frozenset[str] | None:
        """Return the only nodes of a deployment, None if it is not pinned."""
        named = self.placements.get(name, ())
        return frozenset(named) if named else self.deployments[name].pins


def replica_key(model: str, adapter: str = "") -> str:
    """Return how a model, or an adapter of it, is named among what one node holds."""
    return f"{model}+{adapter}" if adapter else model


def misfit(
    engine_kind: str, hardware: NodeHardware, model: Model, runtime: Runtime | None = None
) -> str:
    """Return why a node's engine can not hold ``model``, empty if it can.

    What the node has not reported is taken to fit.
    """
    if engine_kind == "":
        return "the node has not connected yet"
    if engine_kind == "none":
        return "the node has no engine"
    if engine_kind != ENGINE_KIND_OF[model.source]:
        return f"an engine of kind {engine_kind} cannot hold a {model.source} model"
    memory_bytes = hardware.weights_memory_bytes
    if 0 < memory_bytes < model.weights_bytes:
        return (
            f"its {gigabytes(model.weights_bytes)} of weights are more than the"
            f" {gigabytes(memory_bytes)} that an engine there can take"
        )
    return "" if runtime is None else runtime_misfit(engine_kind, hardware, runtime)


def runtime_misfit(engine_kind: str, hardware: NodeHardware, runtime: Runtime) -> str:
    """Return why a node can not start engines of ``runtime``, empty if it can."""
    if engine_kind != runtime.engine_kind:
        return f"runtime {runtime.name} needs an engine of kind {runtime.engine_kind}"
    kind = hardware.accelerator_kind
    if runtime.accelerators and kind and kind not in runtime.accelerators:
        return f"runtime {runtime.name} is for {', '.join(runtime.accelerators)}, not {kind}"
    version = hardware.engine_version
    if runtime.version_constraint and version and not _allows(runtime.version_constraint, version):
        return (
            f"runtime {runtime.name} needs {runtime.engine_kind} {runtime.version_constraint},"
            f" the node has {version}"
        )
    return ""


def adapter_misfit(hardware: NodeHardware, adapter: Adapter) -> str:
    """Return why a node's engines can not load ``adapter``, empty if they can."""
    if hardware.max_adapters == 0:
        return "its engine loads no adapters"
    if 0 < hardware.max_adapter_rank < adapter.rank:
        return (
            f"rank {adapter.rank} of adapter {adapter.name} is above the"
            f" {hardware.max_adapter_rank} that its engine takes"
        )
    return ""


def gigabytes(size_bytes: int) -> str:
    """Return a size in words, in GB or MB."""
    if size_bytes < _GB / 10:
        return f"{size_bytes / 1e6:.1f} MB"
    return f"{size_bytes / _GB:.2f} GB"


def is_allowed(deployment: Deployment, pins: Iterable[str] | None, node_id: str, zone: str) -> bool:
    """Return whether ``deployment`` may be served at a node, by its pins and its zones."""
    if pins is not None and node_id not in pins:
        return False
    return not deployment.residency_zones or zone in deployment.residency_zones


def _allows(constraint: str, version: str) -> bool:
    try:
        return SpecifierSet(constraint).contains(Version(version), prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return False
