"""What the steps of a replica plan share: wants, drafts, and what is allowed where."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from coordinator.core.plan_draft import NodeDraft
from coordinator.core.plan_input import ENGINE_KIND_OF, is_allowed, misfit, replica_key
from protos.domain.resources import Hold, ModelSource, NodeIntent

if TYPE_CHECKING:
    from coordinator.core.plan_input import PlanInput
    from protos.domain.hardware import NodeHardware
    from protos.domain.resources import Adapter, Deployment, Model, Runtime


class Version(enum.Enum):
    """Which version of a deployment a want is for."""

    PRESENT = "present"
    NEXT = "next"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Unplaced:
    """What was asked for and is not in this plan, and why; ``node_id`` is empty for the fleet."""

    deployment: str
    node_id: str
    reason: str


class Want(NamedTuple):
    """A version of a deployment that is to be held somewhere."""

    deployment: Deployment
    version: Version
    model: Model
    adapter: Adapter | None
    runtime: Runtime | None
    pins: frozenset[str] | None

    @property
    def name(self) -> str:
        """The deployment's name."""
        return self.deployment.name

    @property
    def runtime_name(self) -> str:
        """Empty: as each host is configured."""
        return "" if self.runtime is None else self.runtime.name

    def allows(self, draft: NodeDraft) -> bool:
        """Return whether pins and zones allow a node."""
        return is_allowed(self.deployment, self.pins, draft.node_id, draft.node.zone)


class PlanWork:
    """The state of one plan while its steps run."""

    def __init__(self, fleet: PlanInput) -> None:
        self.fleet = fleet
        self.drafts = {one: NodeDraft(one, fleet.nodes[one]) for one in sorted(fleet.nodes)}
        self.by_pop: dict[str, list[NodeDraft]] = {}
        for draft in self.drafts.values():
            self.by_pop.setdefault(draft.node.pop_id, []).append(draft)
        self._unplaced: list[Unplaced] = []
        self._misfits: dict[tuple[str, NodeHardware, str, str], str] = {}
        self._forbids: dict[str, list[tuple[str, str]]] = {}
        for rule in fleet.rules.forbids:
            self._forbids.setdefault(rule.name, []).append((rule.node_id, rule.pop_id))
        self.wants = self._all_wants()
        self.free = [one for one in self.wants if self._is_free(one)]

    def unplaced(self, deployment: str, node_id: str, reason: str) -> None:
        """Say why something that was asked for is not in the plan."""
        self._unplaced.append(Unplaced(deployment, node_id, reason))

    def all_unplaced(self) -> tuple[Unplaced, ...]:
        """Return everything that is not in the plan, each once, in order."""
        found = {(one.deployment, one.node_id): one for one in reversed(self._unplaced)}
        return tuple(found[key] for key in sorted(found))

    def misfit(self, draft: NodeDraft, model: Model, runtime: Runtime | None = None) -> str:
        """Return why a node can not hold a model as both are now, empty if it can."""
        if draft.node.intent is NodeIntent.RETIRED:
            return "the node is retired"
        node = draft.node
        key = (node.engine_kind, node.hardware, model.name, runtime.name if runtime else "")
        found = self._misfits.get(key)
        if found is None:
            found = self._misfits[key] = misfit(node.engine_kind, node.hardware, model, runtime)
        return found

    def forbidden(self, name: str, draft: NodeDraft) -> bool:
        """Return whether an operator has forbidden a model or an adapter at a node."""
        rules = self._forbids.get(name)
        return rules is not None and any(
            node_id == draft.node_id if node_id else pop_id == draft.node.pop_id
            for node_id, pop_id in rules
        )

    def may_hold(self, want: Want, draft: NodeDraft) -> bool:
        """Return whether a node may hold what is wanted, and could."""
        return (
            want.allows(draft)
            and not self.forbidden(want.model.name, draft)
            and not self.misfit(draft, want.model, want.runtime)
        )

    def per_minute(self, pop_id: str, want: Want) -> float:
        """Return how often a deployment is asked for at a POP."""
        return self.fleet.demand.get((pop_id, want.name), 0.0)

    def was_hot(self, model: str) -> list[str]:
        """Return the nodes that the last plan let hold a model hot, in order."""
        return [
            node_id
            for node_id, node in sorted(self.fleet.nodes.items())
            if node.holds.get(model) is Hold.HOT
        ]

    def _all_wants(self) -> list[Want]:
        fleet, wants = self.fleet, []
        for name in sorted(fleet.deployments):
            present = fleet.deployments[name]
            wants += self._want(present, Version.PRESENT, fleet.pins_of(name))
            if (following := fleet.preparing.get(name)) is not None:
                wants += self._want(following, Version.NEXT, following.pins)
            if (before := fleet.leaving.get(name)) is not None:
                wants += self._want(before, Version.LAST, before.pins)
        return wants

    def _want(
        self, deployment: Deployment, version: Version, pins: frozenset[str] | None
    ) -> list[Want]:
        fleet = self.fleet
        model = fleet.models.get(deployment.model)
        adapter = fleet.adapters.get(deployment.adapter) if deployment.adapter else None
        reason = ""
        if model is None:
            reason = "its model is not in the registry"
        elif deployment.adapter and adapter is None:
            reason = "its adapter is not in the registry"
        elif any(
            one is not None and one.account_id not in ("", deployment.account_id)
            for one in (model, adapter)
        ):
            reason = "its model or adapter belongs to another account"
        elif deployment.runtime and deployment.runtime not in fleet.runtimes:
            reason = "its runtime is not in the registry"
        if model is None or reason:
            for node_id in sorted(pins) if pins else ("",):
                self.unplaced(deployment.name, node_id, reason)
            return []
        runtime = fleet.runtimes.get(deployment.runtime)
        return [Want(deployment, version, model, adapter, runtime, pins)]

    def _is_free(self, want: Want) -> bool:
        """Return whether demand places it: only pins say what an external engine serves."""
        return (
            want.pins is None
            and want.model.source in ENGINE_KIND_OF
            and want.model.source is not ModelSource.EXTERNAL
        )


def key_of(want: Want) -> str:
    """Return how what is wanted is named among what a node holds."""
    return replica_key(want.model.name, want.adapter.name if want.adapter else "")
