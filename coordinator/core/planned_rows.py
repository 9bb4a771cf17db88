"""From a replica plan to the rows for agents, and to what would move, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.core.plan_input import is_allowed, replica_key
from protos.domain.resources import DesiredAdapter, DesiredReplica, Hold, NodeIntent

if TYPE_CHECKING:
    from coordinator.core.plan_draft import NodeDraft
    from coordinator.core.plan_input import PlanInput
    from coordinator.core.replica_plan import ReplicaPlan
    from protos.domain.resources import Adapter, Model, ModelFile, Runtime

Desired = DesiredReplica | DesiredAdapter


@dataclass(frozen=True, slots=True)
class PlanMove:
    """One change that a plan makes at a node; None: it is not held."""

    node_id: str
    name: str
    before: Hold | None
    after: Hold | None
    why: str


class RowMaker:
    """Makes each row once, so that equal rows of many nodes are one object."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, Hold, str], tuple[tuple[object, ...], DesiredReplica]] = {}
        self._adapters: dict[tuple[str, Hold], tuple[tuple[object, ...], DesiredAdapter]] = {}

    def rows(self, fleet: PlanInput, draft: NodeDraft) -> dict[str, Desired]:
        """Return what a node should hold, by model or ``model+adapter``."""
        rows: dict[str, Desired] = {}
        for name, planned in draft.models.items():
            rows[name] = self._replica(fleet, name, planned.hold, planned.runtime)
        for name, planned in draft.adapters.items():
            adapter = fleet.adapters[name]
            key = replica_key(adapter.model, name)
            rows[key] = self._adapter(fleet, adapter, planned.hold)
        return rows

    def _replica(
        self, fleet: PlanInput, name: str, hold: Hold, runtime_name: str
    ) -> DesiredReplica:
        model, runtime = fleet.models[name], fleet.runtimes.get(runtime_name)
        files = fleet.manifests.get(name, ())
        key, made_of = (name, hold, runtime_name), (model, runtime, files)
        found = self._models.get(key)
        if found is None or found[0] != made_of:
            found = self._models[key] = (made_of, _replica(model, files, hold, runtime))
        return found[1]

    def _adapter(self, fleet: PlanInput, adapter: Adapter, hold: Hold) -> DesiredAdapter:
        files = fleet.manifests.get(adapter.name, ())
        key, made_of = (adapter.name, hold), (adapter, files)
        found = self._adapters.get(key)
        if found is None or found[0] != made_of:
            row = DesiredAdapter(adapter.name, adapter.model, adapter.rank, tuple(files), hold)
            found = self._adapters[key] = (made_of, row)
        return found[1]


def _replica(
    model: Model, files: Sequence[ModelFile], hold: Hold, runtime: Runtime | None
) -> DesiredReplica:
    return DesiredReplica(
        model=model.name,
        source=model.source,
        files=tuple(files),
        context_tokens=model.context_tokens,
        hold=hold,
        runtime=runtime,
        swap_key=model.swap_key,
    )


def key_of_row(row: Desired) -> str:
    """Return how a row is named among those of its node."""
    if isinstance(row, DesiredAdapter):
        return replica_key(row.model, row.adapter)
    return row.model


def still_allowed(
    fleet: PlanInput, node_id: str, rows: Mapping[str, Desired]
) -> dict[str, Desired]:
    """Return the rows that a frozen node keeps: what a deployment still allows, unforbidden."""
    node = fleet.nodes[node_id]
    if node.intent is NodeIntent.RETIRED:
        return {}
    named: set[str] = set()
    for name, deployment in fleet.deployments.items():
        versions = [
            (deployment, fleet.pins_of(name)),
            *(
                (one, one.pins)
                for one in (fleet.preparing.get(name), fleet.leaving.get(name))
                if one is not None
            ),
        ]
        for version, pins in versions:
            if is_allowed(version, pins, node_id, node.zone):
                named |= {version.model, version.adapter}
    for rule in fleet.rules.forbids:
        if rule.covers(node_id, node.pop_id):
            named.discard(rule.name)
    return {
        key: row
        for key, row in rows.items()
        if row.model in named and (not isinstance(row, DesiredAdapter) or row.adapter in named)
    }


def moves_of(fleet: PlanInput, plan: ReplicaPlan) -> list[PlanMove]:
    """Return what differs between a plan and what nodes hold, by node and name."""
    moves = []
    for node_id, draft in plan.nodes.items():
        before, after = fleet.nodes[node_id].holds, draft.holds()
        if before == after:
            continue
        for key in sorted({*before, *after}):
            old, new = before.get(key), after.get(key)
            if old is not new:
                moves.append(PlanMove(node_id, key, old, new, _why(fleet, draft, key)))
    return moves


def _why(fleet: PlanInput, draft: NodeDraft, key: str) -> str:
    model, _, adapter = key.partition("+")
    planned = draft.adapters.get(adapter) if adapter else draft.models.get(model)
    if planned is not None:
        return planned.why
    node = draft.node
    if any(
        rule.name in (model, adapter) and rule.covers(draft.node_id, node.pop_id)
        for rule in fleet.rules.forbids
    ):
        return "an operator has forbidden it there"
    if node.intent is NodeIntent.RETIRED:
        return "the node is retired"
    name = adapter or model
    versions = [
        *fleet.deployments.values(),
        *fleet.preparing.values(),
        *fleet.leaving.values(),
    ]
    if not any(name in (one.model, one.adapter) for one in versions):
        return "no deployment names it any more"
    hot = sorted(one for one, planned in draft.models.items() if planned.hold is Hold.HOT)
    if hot:
        return f"{', '.join(hot)} is asked for more, or pinned, and has the engine"
    return "no deployment that names it may be served there"
