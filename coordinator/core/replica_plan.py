"""Which models and adapters each node should hold, from pins, rules and demand.

Deployments with pins are placed on their nodes and nowhere else. The others are hot where they are
asked for most, as far as engines, memory and disk go; each of them has one home at least, which is
regional if it can be; and every node that could load one on demand may do so.

Laws: same input, same plan; a plan that was carried out is stable; an engine holds no model that
does not fit; nothing is planned outside pins, zones, prohibitions and ownership; what is held is
moved only for a stated reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.core.adapter_plan import plan_adapters
from coordinator.core.demand_plan import plan_demand
from coordinator.core.on_demand_plan import plan_homes, plan_on_demand
from coordinator.core.pin_plan import plan_pins
from coordinator.core.plan_work import PlanWork, Unplaced

if TYPE_CHECKING:
    from coordinator.core.plan_draft import NodeDraft
    from coordinator.core.plan_input import PlanInput

__all__ = ["ReplicaPlan", "Unplaced", "plan_replicas"]


@dataclass(frozen=True, slots=True)
class ReplicaPlan:
    """What every node should hold, and what could not be placed."""

    nodes: Mapping[str, NodeDraft]
    unplaced: tuple[Unplaced, ...]


def plan_replicas(fleet: PlanInput) -> ReplicaPlan:
    """Return the plan for ``fleet``."""
    work = PlanWork(fleet)
    plan_pins(work)
    plan_demand(work)
    plan_homes(work)
    plan_on_demand(work)
    plan_adapters(work)
    return ReplicaPlan(work.drafts, work.all_unplaced())
