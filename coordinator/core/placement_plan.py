"""Which model each node should hold, from the nodes that operators named for each deployment.

An engine holds one model, and only an engine of the kind that the model's source needs: vLLM for
managed models, an external server for external ones.
Laws: same input, same plan; a node that holds a wanted model keeps it (fewest moves); nothing is
planned onto a node without an engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from protos.domain.resources import (
    Deployment,
    DesiredReplica,
    Model,
    ModelFile,
    ModelSource,
    NodeIntent,
)

#: The engine kind that can hold a model of each source.
ENGINE_KIND_OF = {ModelSource.MANAGED: "vllm", ModelSource.EXTERNAL: "external"}


@dataclass(frozen=True, slots=True)
class PlanNode:
    """A node as the planner sees it; ``engine_kind`` is empty until the node has reported it."""

    engine_kind: str
    intent: NodeIntent
    #: The model that the last plan gave it, None if none.
    holds: str | None


@dataclass(frozen=True, slots=True)
class PlanInput:
    """The fleet at one moment."""

    nodes: Mapping[str, PlanNode]
    models: Mapping[str, Model]
    #: model -> its files
    manifests: Mapping[str, Sequence[ModelFile]]
    deployments: Mapping[str, Deployment]
    #: deployment -> node ids that its operator named
    placements: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A placement that was asked for and is not in this plan, and why."""

    deployment: str
    node_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class PlacementPlan:
    """What every node should hold: one replica or None."""

    desired: Mapping[str, DesiredReplica | None]
    unplaced: tuple[Unplaced, ...]


def plan_placements(fleet: PlanInput) -> PlacementPlan:
    """Return the plan for ``fleet``."""
    wishes, unplaced = _wishes(fleet)
    desired: dict[str, DesiredReplica | None] = {}
    for node_id in sorted(fleet.nodes):
        wanted = wishes.get(node_id, {})
        chosen = _chosen(fleet.nodes[node_id], wanted)
        desired[node_id] = None if chosen is None else _replica(fleet, chosen)
        for model, deployments in wanted.items():
            if model != chosen:
                reason = _refusal(fleet.nodes[node_id], chosen)
                unplaced += [Unplaced(name, node_id, reason) for name in deployments]
    return PlacementPlan(desired, tuple(sorted(unplaced, key=_order)))


def _wishes(fleet: PlanInput) -> tuple[dict[str, dict[str, list[str]]], list[Unplaced]]:
    """Return node -> model -> deployments that ask for it there, and those that are impossible."""
    wishes: dict[str, dict[str, list[str]]] = {}
    unplaced: list[Unplaced] = []
    for name in sorted(fleet.deployments):
        model = fleet.models.get(fleet.deployments[name].model)
        for node_id in sorted(set(fleet.placements.get(name, ()))):
            reason = _impossible(fleet.nodes.get(node_id), model)
            if reason or model is None:
                unplaced.append(Unplaced(name, node_id, reason))
            else:
                wishes.setdefault(node_id, {}).setdefault(model.name, []).append(name)
    return wishes, unplaced


def _impossible(node: PlanNode | None, model: Model | None) -> str:
    """Return why ``node`` can never hold ``model`` as both are now, empty if it can."""
    if model is None:
        return "its model is not in the registry"
    if node is None or node.engine_kind == "":
        return "the node has not connected yet"
    if node.engine_kind == "none":
        return "the node has no engine"
    if node.engine_kind != ENGINE_KIND_OF[model.source]:
        return f"an engine of kind {node.engine_kind} cannot hold a {model.source} model"
    if node.intent is NodeIntent.RETIRED:
        return "the node is retired"
    return ""


def _chosen(node: PlanNode, wanted: Mapping[str, Sequence[str]]) -> str | None:
    """Return the model for a node: the held one if still asked for, else the first deployment's."""
    if node.holds in wanted:
        return node.holds
    if node.intent is not NodeIntent.ACTIVE:
        return None
    return min(wanted, key=lambda model: wanted[model][0], default=None)


def _refusal(node: PlanNode, chosen: str | None) -> str:
    if chosen is None:
        return f"the node is {node.intent} and gets no new model"
    return f"its engine holds {chosen}, and an engine holds one model"


def _replica(fleet: PlanInput, model_name: str) -> DesiredReplica:
    model = fleet.models[model_name]
    return DesiredReplica(
        model=model.name,
        source=model.source,
        files=tuple(fleet.manifests.get(model.name, ())),
        context_tokens=model.context_tokens,
    )


def _order(unplaced: Unplaced) -> tuple[str, str]:
    return unplaced.deployment, unplaced.node_id
